// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holds that wait for servers and files, as the daemon in its sandbox sees them.

use crate::machine::{Machine, SUITES};

/// Gives the machine an address that the daemon itself may not talk to, and listens there once it is told to; the answers
/// over HTTP are errors until then.
const SERVER: &str = r#"
import fcntl, http.server, os, socket, struct, threading, time
address = struct.pack("16sH2s4s8s", b"lo:1", socket.AF_INET, b"", socket.inet_aton("10.9.9.9"), b"")
fcntl.ioctl(socket.socket(), 0x8916, address)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.path.exists("/run/well") else 503)
        self.send_header("Content-Length", str(10 << 30))
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * 65536)
        except OSError:
            pass
    def log_message(self, *args):
        pass
threading.Thread(target=http.server.ThreadingHTTPServer(("127.0.0.1", 8001), Health).serve_forever).start()
while not os.path.exists("/run/well"):
    time.sleep(0.05)
server = socket.create_server(("10.9.9.9", 5432))
held = []
while True:
    held.append(server.accept())
"#;

#[test]
fn what_is_held_comes_back_when_its_condition_holds() {
    let unit = "[Service]\nExecStart=/bin/sleep 1000\n";
    let conditions = [
        ("tcp", "reachable(tcp://10.9.9.9:5432)"),
        ("http", "reachable(http://127.0.0.1:8001/health)"),
        ("file", "exists(/run/some/where/go)"),
    ];
    for suite in SUITES {
        let policies = conditions.map(|(name, until)| {
            let text = format!(
                "[worker]\nunit = \"{name}.service\"\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\n\
                 [cause.killed-unattributed]\nuntil = \"{until}\"\n"
            );
            (format!("/etc/watcherd/workers.d/{name}.toml"), text)
        });
        let units = conditions.map(|(name, _)| format!("/etc/systemd/system/{name}.service"));
        let mut files: Vec<(&str, &str)> = policies.iter().map(|(path, text)| (&**path, &**text)).collect();
        files.extend(units.iter().map(|path| (&**path, unit)));
        files.push(("/opt/server.py", SERVER));
        files.push(("/etc/systemd/system/server.service", "[Service]\nExecStart=/usr/bin/python3 /opt/server.py\n"));
        let machine = Machine::boot_with(suite, &files);
        machine.ok(&["systemctl", "start", "watcherd", "server", "tcp", "http", "file"]);
        for (name, _) in conditions {
            machine.until_property(&format!("{name}.service"), "Phase", "working");
            machine.ok(&["systemctl", "kill", "--signal=KILL", name]);
            machine.until_property(&format!("{name}.service"), "Phase", "held");
        }
        machine.ok(&["mkdir", "-p", "/run/some/where"]);
        machine.ok(&["touch", "/run/some/where/go"]);
        machine.until("the worker that waited for a file", || {
            (machine.unit("file.service", "ActiveState") == "active").then_some(())
        });
        for name in ["tcp.service", "http.service"] {
            assert_eq!(machine.property(name, "Phase"), "held", "{}", machine.story());
        }
        machine.ok(&["touch", "/run/well"]);
        for name in ["tcp.service", "http.service"] {
            machine.until(name, || (machine.unit(name, "ActiveState") == "active").then_some(()));
            assert_eq!(machine.property(name, "Attempts"), "0");
        }
        let rest = || machine.ok(&["systemctl", "list-units", "-q", "--all", "--no-legend", "watcherd-reach-*"]);
        machine.until("nobody to ask any more", || rest().is_empty().then_some(()));
        assert_eq!(machine.unit("watcherd.service", "NRestarts"), "0");
    }
}
