"""SCons tools: `toolpath=[PyPackageDir("etexport.scons_tools")]`."""
