"""Drives the real FileZilla in a window of its own (Xvfb, xdotool), as a person would with the keyboard.

    filezilla.py [--preserve] [--tries N] [--shot FILE.png] [--log FILE] HOST PORT USER PASSWORD ACTION FIRST SECOND

put, resume LOCAL NAME     upload a file whose last name is NAME; resume goes on with what is there
get, fetch LOCAL NAME      download NAME into LOCAL's folder, where it keeps its name; fetch goes on with what is there
put_tree, get_tree         the same with a folder of files
rename OLD NEW             in the login folder

Exit code 0: all was transferred; 1: FileZilla says that something failed; 3: the driver did not get through.
Everything it starts ends with it. It waits for what it sees in FileZilla's log, never for a time alone.
"""

import argparse
import base64
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 1280, 1000
# A place in the lists below their last entry.
BELOW = 640
TIMEOUT_S = 600
# Nothing happens in the log for so long before the end of the queue is believed.
QUIET_S = 1.5


class Stuck(Exception):
    """FileZilla did not do what was waited for."""


class Refused(Exception):
    """FileZilla says that it failed."""


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--preserve", action="store_true")
    parser.add_argument("--tries", type=int, default=0)
    parser.add_argument("--shot")
    parser.add_argument("--log")
    for name in ("host", "port", "user", "password", "action", "first", "second"):
        parser.add_argument(name)
    return parser.parse_args()


def known_host(home, host, port):
    """Writes the server's key as FileZilla's own ssh keeps it: an ed25519 key is kept as its point, in hexadecimal."""
    scan = subprocess.run(["ssh-keyscan", "-t", "ed25519", "-p", port, host], capture_output=True, text=True, timeout=30)
    found = re.search(r"ssh-ed25519 (\S+)", scan.stdout)
    if not found:
        raise Stuck("the server shows no key")
    number = int.from_bytes(base64.b64decode(found.group(1))[-32:], "little")
    sign, y, prime = number >> 255, number & ((1 << 255) - 1), 2**255 - 19
    d = -121665 * pow(121666, prime - 2, prime) % prime
    square = (y * y - 1) * pow(d * y * y + 1, prime - 2, prime) % prime
    x = pow(square, (prime + 3) // 8, prime)
    if (x * x - square) % prime:
        x = x * pow(2, (prime - 1) // 4, prime) % prime
    if x & 1 != sign:
        x = prime - x
    os.makedirs(f"{home}/.putty", mode=0o700)
    with open(f"{home}/.putty/sshhostkeys", "w") as file:
        file.write(f"ssh-ed25519@{port}:{host} 0x{x:x},0x{y:x}\n")


class FileZilla:
    """One FileZilla: its folder, its screen, its log."""

    def __init__(self, asked):
        self.asked = asked
        self.folder = tempfile.mkdtemp(prefix="filezilla-")
        self.log_file, self.done = f"{self.folder}/log", f"{self.folder}/done"
        self.deadline = time.monotonic() + TIMEOUT_S
        self.processes = []
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "GTK_", "DBUS_", "WAYLAND", "SSH_"))}
        self.environment = kept | {
            "HOME": self.folder,
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "GTK_IM_MODULE": "gtk-im-context-simple",
            "NO_AT_BRIDGE": "1",
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
            "GDK_BACKEND": "x11",
        }

    # Its settings.

    def write(self, name, body):
        folder = f"{self.folder}/.config/filezilla"
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/{name}", "w") as file:
            file.write(f'<?xml version="1.0"?>\n<FileZilla3 version="3.63.0" platform="*nix">{body}</FileZilla3>\n')

    def configure(self):
        asked = self.asked
        settings = {
            "Greeting version": "99.0.0",
            "Update Check": 0,
            "Prompt password save": 0,
            "Language Code": "en_US",
            "Reconnect count": asked.tries,
            "Reconnect delay": 1,
            # 1 overwrites, 5 resumes.
            "File exists action upload": 5 if asked.action == "resume" else 1,
            "File exists action download": 5 if asked.action == "fetch" else 1,
            "Preserve timestamps": int(asked.preserve),
            # With the bar, Enter in a list presses its button.
            "Show quickconnect bar": 0,
            "Show Tree Local": 0,
            "Show Tree Remote": 0,
            "Toolbar hidden": 0,
            "View hidden files": 1,
            "Window position and size": f"0 0 0 {WIDTH} {HEIGHT} ",
            "Enable invalid char filter": 0,
            "Confirm exit": 0,
            "Logging file": self.log_file,
            "Logging filesize limit": 0,
            "Logging show detailed logs": 1,
            # 4: a command, when the queue is empty.
            "Queue completion action": 4,
            "Queue completion command": f"touch {self.done}",
        }
        lines = (f'<Setting name="{name}">{escape(str(value))}</Setting>' for name, value in settings.items())
        self.write("filezilla.xml", f"<Settings>{''.join(lines)}</Settings>")
        password = base64.b64encode(asked.password.encode()).decode()
        site = (
            f"<Host>{escape(asked.host)}</Host><Port>{asked.port}</Port><Protocol>1</Protocol><Type>0</Type>"
            f'<User>{escape(asked.user)}</User><Pass encoding="base64">{password}</Pass><Logontype>1</Logontype>'
            "<EncodingType>UTF-8</EncodingType><Name>trial</Name>"
        )
        self.write("sitemanager.xml", f"<Servers><Server>{site}</Server></Servers>")
        known_host(self.folder, asked.host, asked.port)

    def show_only(self, name, pane, is_folder):
        """A filter that hides all else in a pane, so that `Home, Down` stands on the name, whatever letters it has. For a
        folder it hides other folders only, which would come first: it also counts for what is in the folder."""
        local, files = int(pane == "local"), int(not is_folder)
        self.write(
            "filters.xml",
            f"<Filters><Filter><Name>only</Name><ApplyToFiles>{files}</ApplyToFiles><ApplyToDirs>1</ApplyToDirs>"
            "<MatchType>None</MatchType><MatchCase>1</MatchCase><Conditions><Condition><Type>0</Type>"
            f"<Condition>1</Condition><Value>{escape(name)}</Value></Condition></Conditions></Filter></Filters>"
            f'<Sets Current="0"><Set><Item><Local>{local}</Local><Remote>{1 - local}</Remote></Item></Set></Sets>',
        )

    # Its window.

    def spawn(self, command, **more):
        def tied():
            # Ends with the driver, even when that is killed.
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)

        quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process = subprocess.Popen(
            command, env=self.environment, cwd=self.folder, start_new_session=True, preexec_fn=tied, **quiet, **more
        )
        self.processes.append(process)
        return process

    def start(self, local_folder):
        read, write = os.pipe()
        # Without -noreset it throws everybody out when its first client, an xdotool, leaves.
        screen = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp", "-noreset"]
        self.spawn(screen, pass_fds=[write])
        os.close(write)
        self.environment["DISPLAY"] = ":" + os.read(read, 16).decode().strip()
        self.spawn(["filezilla", "--site=0/trial", f"--local={local_folder}"])
        self.window = self.until("its window", lambda: self.dialogs() or self.windows(" - FileZilla$"))[-1]
        self.xdo("windowmove", self.window, 0, 0, "windowsize", self.window, WIDTH, HEIGHT)
        self.until("the listing", self.has_listed, 60)

    def xdo(self, *words):
        command = ["xdotool", *map(str, words)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60).stdout.split()

    def windows(self, title):
        return self.xdo("search", "--onlyvisible", "--name", title)

    def dialogs(self):
        """What stands in the way: a local name that is no UTF-8, which FileZilla leaves out."""
        for window in self.windows("^Character encoding issue$"):
            self.xdo("windowfocus", "--sync", window, "key", "--clearmodifiers", "Return")

    def until(self, what, look, bound_s=30.0):
        end = min(time.monotonic() + bound_s, self.deadline)
        while not (found := look()):
            if time.monotonic() > end:
                raise Stuck(f"waited in vain for {what}")
            if len(self.processes) > 1 and self.processes[1].poll() is not None:
                raise Stuck(f"FileZilla ended by itself before {what}")
            time.sleep(0.05)
        return found

    def press(self, pane, *keys):
        x = WIDTH // 4 if pane == "local" else WIDTH * 3 // 4
        where = ["windowfocus", "--sync", self.window, "mousemove", x, BELOW, "click", 1]
        self.xdo(*where, "key", "--clearmodifiers", "--delay", 20, *keys)

    def menu(self, pane, letter):
        """Stands on the only entry and presses a letter of its menu, until the log moves. The log tells of a listing a
        moment before the window knows of it; until then the menu is grey."""
        for _ in range(8):
            before = os.path.getsize(self.log_file)
            popups = set(self.xdo("search", "--onlyvisible", "--class", "filezilla"))
            self.press(pane, "Home", "Down", "Menu")
            try:
                opened = lambda: set(self.xdo("search", "--onlyvisible", "--class", "filezilla")) - popups
                self.until("the menu", opened, 3)
                self.xdo("key", letter)
                return self.until("an effect", lambda: os.path.getsize(self.log_file) != before, 3)
            except Stuck:
                self.xdo("key", "Escape", "Escape")
        raise Stuck("the menu has no effect")

    # Its log.

    def lines(self):
        """Connection, kind and text of each line."""
        try:
            with open(self.log_file, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except FileNotFoundError:
            return []
        return [found.groups() for found in re.finditer(r"(?m)^\S+ \S+ \d+ (\d+) ([A-Z][A-Za-z ]*?): (.*)$", text)]

    def errors(self):
        return [text for _, kind, text in self.lines() if kind in ("Error", "Critical error")]

    def has_listed(self):
        self.dialogs()
        lines = self.lines()
        if any(kind == "Critical error" for _, kind, _ in lines):
            raise Refused("it could not connect")
        return any("irectory listing of" in text and text.endswith("successful") for _, _, text in lines)

    def transfers(self, lines):
        """What came of each file, and whether anything is under way."""
        files, current, listing = {}, {}, set()
        for connection, kind, text in lines:
            if found := re.match(r"Starting (?:upload|download) of (.*)$", text):
                current[connection] = found.group(1)
                files[current[connection]] = "running"
            elif connection in current and text.startswith(("File transfer successful", "Skipping ")):
                files[current.pop(connection)] = "ok"
            elif connection in current and kind in ("Error", "Critical error"):
                files[current[connection]] = "failed"
            if text.startswith("Retrieving directory listing"):
                listing.add(connection)
            elif "irectory listing of" in text or kind in ("Command", "Error", "Critical error"):
                listing.discard(connection)
        return files, bool(listing) or "running" in files.values()

    def transfer(self, pane, files_expected):
        before = len(self.lines())
        self.menu(pane, "u" if pane == "local" else "d")
        seen = {"size": -1, "since": time.monotonic()}

        def is_over():
            size = os.path.getsize(self.log_file)
            if size != seen["size"]:
                seen.update(size=size, since=time.monotonic())
            if time.monotonic() - seen["since"] < QUIET_S or not os.path.exists(self.done):
                return False
            files, is_busy = self.transfers(self.lines()[before:])
            return not is_busy and len(files) >= files_expected

        self.until("the end of all transfers", is_over, TIMEOUT_S)
        files, _ = self.transfers(self.lines()[before:])
        if failed := [name for name, state in files.items() if state != "ok"]:
            raise Refused(f"not transferred: {', '.join(failed)}")

    def rename(self, new):
        before = len(self.lines())
        sent = lambda: any(kind == "Command" and text.startswith("mv ") for _, kind, text in self.lines()[before:])
        for _ in range(5):
            self.press("remote", "Home", "Down", "F2", "ctrl+a")
            self.xdo("type", "--delay", 30, "--", new)
            self.xdo("key", "Return")
            try:
                self.until("the rename", sent, 4)
                break
            except Stuck:
                self.xdo("key", "Escape")
        answered = lambda: self.errors() or any("->" in text or "listing" in text for _, _, text in self.lines()[before:])
        self.until("its answer", lambda: sent() and answered())
        if self.errors():
            raise Refused("the rename failed")

    def end(self):
        if self.asked.shot and "DISPLAY" in self.environment:
            subprocess.run(["import", "-window", "root", self.asked.shot], env=self.environment, timeout=60)
        for process in reversed(self.processes):
            for sign in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, sign)
                    process.wait(5)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    pass
        if self.asked.log and os.path.exists(self.log_file):
            shutil.copy(self.log_file, self.asked.log)
        shutil.rmtree(self.folder, ignore_errors=True)


def run(filezilla):
    asked = filezilla.asked
    filezilla.configure()
    if asked.action == "rename":
        filezilla.show_only(asked.first, "remote", is_folder=False)
        filezilla.start(filezilla.folder)
        return filezilla.rename(asked.second)
    local, name = os.path.abspath(asked.first), asked.second
    pane = "local" if asked.action in ("put", "resume", "put_tree") else "remote"
    filezilla.show_only(name, pane, is_folder="tree" in asked.action)
    filezilla.start(os.path.dirname(local))
    files = sum(len(names) for _, _, names in os.walk(local)) if pane == "local" and os.path.isdir(local) else 1
    return filezilla.transfer(pane, files)


def main():
    filezilla = FileZilla(arguments())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    code = 0
    try:
        run(filezilla)
    except Refused as refused:
        code = 1
        print(refused, *filezilla.errors(), sep="\n")
    except (Stuck, OSError, subprocess.TimeoutExpired) as stuck:
        code = 3
        print(stuck, *(text for _, _, text in filezilla.lines()[-12:]), sep="\n")
    finally:
        filezilla.end()
    sys.exit(code)


main()
