*** Comments ***
Runs the firmware beside this file in Renode on the model's samples and compares its outputs with PyTorch's:

    renode-test firmware.robot

It calls etexport, which must be on PATH, or be named: --variable ETEXPORT:/path/to/etexport. Paths are from this file's folder.

*** Settings ***
Library           Process
Library           String
Resource          ${RENODEKEYWORDS}
Suite Setup       Setup
Suite Teardown    Teardown
Test Setup        Reset Emulation
Test Teardown     Test Teardown
Test Timeout      3600 seconds

*** Variables ***
${ETEXPORT}       etexport
${BOARD}          renode_virt_rv32
${PROGRAM}        ${CURDIR}/../model/x.pte
${REFERENCE}      ${CURDIR}/../model/x.npz

*** Test Cases ***
x On renode_virt_rv32
    ${url}=    Start Firmware    ${CURDIR}/firmware.elf    ${CURDIR}/virt_rv32.resc
    Outputs Should Be Those Of PyTorch    ${CURDIR}    ${url}

*** Keywords ***
Start Firmware
    [Documentation]    The emulated board runs the ELF; the result is the URL of its serial port.
    [Arguments]    ${elf}    ${script}
    ${port}=      Evaluate    (lambda one: (one.bind(('127.0.0.1', 0)), one.getsockname()[1], one.close())[1])(socket.socket())    modules=socket
    # A blank would end a path in the Monitor.
    ${elf}=       Replace String    ${elf}    ${SPACE}    \\${SPACE}
    ${script}=    Replace String    ${script}    ${SPACE}    \\${SPACE}
    Execute Command    $bin=@${elf}
    Execute Command    $port=${port}
    Execute Command    include @${script}
    Execute Command    start
    RETURN    socket://127.0.0.1:${port}

Outputs Should Be Those Of PyTorch
    [Documentation]    Every sample goes through the board at the URL; the folder then has run.json, outputs.npz and wire.log.
    [Arguments]    ${folder}    ${url}
    Etexport    run    ${folder}    --board    ${BOARD}    --inputs    ${REFERENCE}    --port    ${url}    --samples    4
    Etexport    validate    ${folder}    --board    ${BOARD}    --program    ${PROGRAM}    --reference    ${REFERENCE}

Etexport
    [Documentation]    One verb; what it says is the failure's text.
    [Arguments]    @{words}
    ${done}=    Run Process    ${ETEXPORT}    @{words}    stderr=STDOUT    stdin=NONE
    Log    ${done.stdout}
    Should Be Equal As Integers    ${done.rc}    0    etexport ${words}[0]: ${done.stdout}    values=False
