// Runs an ELF on rp2040js, a simulator of the Raspberry Pi Pico's chip that shares no code with QEMU.
//
//     node rp2040.cjs firmware.elf 115200
//
// It does what the chip's ROM does: checks the 256 bytes at the start of flash, copies them to the end of RAM and jumps there. The serial
// port is TCP on the loopback interface; nothing runs before someone connects, and bytes only pass while the UART, as the firmware has set
// up clocks and divider, is within 2 % of the given speed. Semihosting's exit ends it. Status 127: rp2040js is not there.
"use strict";
const fs = require("fs");
const net = require("net");
const path = require("path");
const { createRequire } = require("module");

const FLASH = 0x10000000;
const BOOT2_BYTES = 256;
const BOOT2_RUNS_AT = 0x20041f00; // datasheet, section 2.8.1.3: the last 256 bytes of RAM
const STEPS_A_TURN = 20000;
const MOST_BAUD_ERROR = 0.02;

function simulator() {
  for (const from of [path.join(process.cwd(), "x"), __filename]) {
    try {
      return createRequire(from)("rp2040js");
    } catch (error) {
      if (error.code !== "MODULE_NOT_FOUND") throw error;
    }
  }
  fail(127, "rp2040js is not installed; npm install rp2040js@1.4.1 (in the current folder, or where NODE_PATH says)");
}

function fail(status, text) {
  process.stderr.write(`${text}\n`);
  process.exit(status);
}

// Program headers of a 32-bit little-endian ELF: bytes by load address.
function segments(elf) {
  if (elf.length < 52 || elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 1 || elf[5] !== 1) fail(1, "no ELF of a 32-bit core");
  const found = [];
  for (let at = elf.readUInt32LE(28), i = 0; i < elf.readUInt16LE(44); i += 1, at += elf.readUInt16LE(42)) {
    const [type, offset, , address, bytes] = [0, 4, 8, 12, 16].map((field) => elf.readUInt32LE(at + field));
    if (type === 1 && bytes > 0) found.push([address, elf.subarray(offset, offset + bytes)]);
  }
  return found;
}

// CRC-32 with polynomial 0x04C11DB7, from 0xFFFFFFFF, not reflected, not inverted at the end.
function boot2Crc(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte << 24;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x80000000 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  }
  return crc >>> 0;
}

function start(elf) {
  const { RP2040, ConsoleLogger, LogLevel } = simulator();
  const chip = new RP2040();
  chip.logger = new ConsoleLogger(LogLevel.Error);
  chip.flash.fill(0xff);
  for (const [address, bytes] of segments(elf)) {
    if (address < FLASH || address - FLASH + bytes.length > chip.flash.length) fail(1, `0x${address.toString(16)} is not in flash`);
    chip.flash.set(bytes, address - FLASH);
  }
  const boot2 = Buffer.from(chip.flash.subarray(0, BOOT2_BYTES));
  const [made, stored] = [boot2Crc(boot2.subarray(0, BOOT2_BYTES - 4)), boot2.readUInt32LE(BOOT2_BYTES - 4)];
  if (made !== stored) fail(1, `the ROM refuses the flash: CRC 0x${stored.toString(16)} where 0x${made.toString(16)} belongs; a real chip waits for a UF2 file`);
  chip.sram.set(boot2, BOOT2_RUNS_AT - 0x20000000);
  chip.core.LR = 0;
  chip.core.PC = BOOT2_RUNS_AT;
  return chip;
}

function serve(chip, baud) {
  const uart = chip.uart[0];
  const incoming = [];
  let complained = false;
  const inTime = () => {
    const good = Math.abs(uart.baudRate / baud - 1) <= MOST_BAUD_ERROR;
    if (!good && !complained) {
      process.stderr.write(`the UART is at ${uart.baudRate} bits a second, the line at ${baud}: its bytes are lost\n`);
      complained = true;
    }
    return good;
  };
  const listener = net.createServer((line) => {
    listener.close();
    line.setNoDelay(true);
    let outgoing = [];
    uart.onByte = (byte) => {
      if (inTime()) outgoing.push(byte);
    };
    chip.onBreak = (code) => {
      const [operation, block] = chip.core.registers;
      if (code !== 0xab || operation !== 0x20) fail(1, `breakpoint ${code} at 0x${chip.core.PC.toString(16)}`);
      const status = chip.readUint32(block + 4) & 0xff;
      line.end(Buffer.from(outgoing), () => process.exit(status));
      ended = true;
    };
    let ended = false;
    line.on("data", (bytes) => incoming.push(...bytes));
    line.on("close", () => process.exit(0));
    line.on("error", () => process.exit(0));
    const turn = () => {
      for (let step = 0; step < STEPS_A_TURN && !ended; step += 1) {
        if (incoming.length > 0 && uart.enabled && uart.rxEnabled && !uart.rxFIFO.full) {
          const byte = incoming.shift();
          if (inTime()) uart.feedByte(byte);
        }
        chip.clock.tick((chip.core.executeInstruction() * 1e9) / chip.clkSys);
      }
      if (ended) return;
      if (outgoing.length > 0) {
        line.write(Buffer.from(outgoing));
        outgoing = [];
      }
      setImmediate(turn);
    };
    turn();
  });
  listener.listen(0, "127.0.0.1", () => {
    process.stderr.write(`waiting for connection on: tcp:127.0.0.1:${listener.address().port}\n`);
  });
}

const [, , file, baud] = process.argv;
if (!file || !(Number(baud) > 0)) fail(1, "node rp2040.cjs firmware.elf BAUD");
serve(start(fs.readFileSync(file)), Number(baud));
