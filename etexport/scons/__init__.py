"""What knows SCons: `toolpath=[PyPackageDir("etexport.scons")]` in a project of one's own."""
