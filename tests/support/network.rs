//! A network of a test's own, in which it may have the express path without anybody else noticing.

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Runs a test, and the programs it starts, in a network of its own with nothing but 127.0.0.1.
/// Where this user may not make one, the test says so and is not run.
pub fn in_own(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = || match enter() {
            Ok(()) => test(),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("not run: this user may not make a network of its own ({error})");
            }
            Err(error) => panic!("no network of its own: {error}"),
        };
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Has this thread, and what it starts, live in a new network with its loopback interface up.
fn enter() -> io::Result<()> {
    // SAFETY: changes the network of this thread only, which ends with the test.
    done(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    // SAFETY: plain numbers and arrays, all of which may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the request is of the form that this call takes, and lives through it.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) })?;
    // Frames that did not come by a socket have no route yet, and a machine's own addresses are
    // otherwise not taken from a wire.
    fs::write("/proc/sys/net/ipv4/conf/lo/route_localnet", "1")?;
    fs::write("/proc/sys/net/ipv4/conf/lo/accept_local", "1")
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
