*** Comments ***
Runs a model on its samples in Renode and compares the outputs with PyTorch's. DIR is a build folder, SCRIPT one of the .resc beside this:

    etexport build model.pte --board renode_virt_rv32 -o out
    renode-test renode/link.robot --variable DIR:$PWD/out --variable SCRIPT:virt_rv32.resc

*** Settings ***
Library     Process

*** Variables ***
${PORT}     3456

*** Test Cases ***
Outputs Are Those Of PyTorch
    Execute Command         $bin=@${DIR}/firmware.elf; $port=${PORT}; include @${CURDIR}/${SCRIPT}
    Execute Command         start
    ${ran}=                 Run Process  etexport  run  ${DIR}  --port  socket://127.0.0.1:${PORT}
    Should Be Equal As Integers    ${ran.rc}  0    ${ran.stderr}
    ${compared}=            Run Process  etexport  validate  ${DIR}
    Should Be Equal As Integers    ${compared.rc}  0    ${compared.stderr}
