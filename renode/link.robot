*** Comments ***
Shows that a firmware comes up in Renode and sends frames. The outputs are compared by `etexport run --board renode/virt_rv32.toml`,
which speaks the whole link. Run with: renode-test renode/link.robot --variable BIN:/path/to/firmware.elf

*** Test Cases ***
Firmware Reaches Its Main Loop
    Execute Command           $bin=@${BIN}; $port=3456; include @${CURDIR}/virt_rv32.resc
    ${pc}=  Execute Command   cpu PC
    Execute Command           emulation RunFor "0.1"
    ${later}=  Execute Command   cpu ExecutedInstructions
    Should Not Be Equal       ${pc}  ${later}
