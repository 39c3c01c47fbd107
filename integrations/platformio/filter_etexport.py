"""`monitor_filters = etexport` of PlatformIO: text goes through, frames of the serial link are a line each
(docs/platformio.md). What the lines say is `etexport monitor --port -`, which runs beside the terminal."""

import subprocess
import sys
import threading
from pathlib import Path

from platformio.public import DeviceMonitorFilterBase

sys.path.insert(0, str(Path(__file__).resolve().parent))
from which_python import python_with_etexport


class Frames(DeviceMonitorFilterBase):
    NAME = "etexport"

    def set_running_terminal(self, terminal):
        super().set_running_terminal(terminal)
        terminal.set_rx_encoding("latin-1")  # a letter for each byte, whatever it is
        named = self.config.get(f"env:{self.environment}", "custom_etexport_python", None) if self.environment else None
        command = [named or python_with_etexport() or sys.executable, "-m", "etexport", "monitor", "--port", "-"]
        self.telling = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        threading.Thread(target=self.show, daemon=True).start()

    def rx(self, text):
        try:
            self.telling.stdin.write(text.encode("latin-1"))
            self.telling.stdin.flush()
        except BrokenPipeError:  # it has said why, and ended
            return text
        return ""

    def show(self):
        for line in self.telling.stdout:
            self.get_running_terminal().console.write(line.decode())
