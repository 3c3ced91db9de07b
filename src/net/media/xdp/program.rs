//! The program that the kernel runs for each frame of the interface, and its two maps.
//!
//! It is small enough to be written as instructions (RFC 9669): a plain IPv4 UDP frame to a port
//! that a media thread has claimed, on that thread's queue, goes to the thread; all else goes on
//! into the kernel as if there were no program.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::frame::HEADERS;
use crate::net::media::pages::Mapped;

/// UDP ports there are.
const PORTS: usize = 1 << 16;
/// Bytes from one value of an array map to the next: the kernel rounds up to eight.
const STRIDE: usize = 8;

// Commands of bpf(2), and kinds of its objects.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROGRAM_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const MAP_ARRAY: u32 = 2;
const MAP_SOCKETS: u32 = 17;
const MAP_MAPPABLE: u32 = 1 << 10;
const PROGRAM_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;

/// A program that runs on an interface, for as long as this lives.
#[derive(Debug)]
pub(super) struct Program {
    sockets: OwnedFd,
    ports: Mapped,
    // The link holds the program, the program the maps.
    _link: OwnedFd,
}

impl Program {
    /// Loads the program and lets it run for the interface with `queues` queues.
    ///
    /// # Errors
    /// What the kernel says: `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN`, `EBUSY` where another
    /// program is attached already.
    pub(super) fn attach(interface: u32, queues: u32) -> io::Result<Self> {
        let ports = new_map(MAP_ARRAY, PORTS as u32, MAP_MAPPABLE)?;
        let sockets = new_map(MAP_SOCKETS, queues, 0)?;
        let program = load(&instructions(ports.as_raw_fd(), sockets.as_raw_fd()))?;
        // The driver's own mode where it has one, else the generic.
        let link = LinkCreate { program: fd(&program), interface, kind: ATTACH_XDP, flags: 0 };
        let link = bpf(LINK_CREATE, &link)?;
        let ports = Mapped::new(PORTS * STRIDE, &ports, 0)?;
        Ok(Self { sockets, ports, _link: link })
    }

    /// Has a queue's claimed frames go to an `AF_XDP` socket.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn give(&self, queue: u32, socket: &OwnedFd) -> io::Result<()> {
        let value = fd(socket);
        let update = MapUpdate {
            map: fd(&self.sockets),
            unused: 0,
            key: address(&queue),
            value: address(&value),
            flags: 0,
        };
        call(MAP_UPDATE, &update).map(drop)
    }

    /// Claims the frames to a port that come by `queue`, or with `None` leaves them to the kernel.
    pub(super) fn claim(&self, port: u16, queue: Option<u32>) {
        let at = usize::from(port) * STRIDE;
        // SAFETY: inside the mapping of `PORTS` values of `STRIDE` bytes, aligned, and written by
        // nobody but by atomic stores; the program reads whole words.
        let value = unsafe { &*self.ports.as_ptr().add(at).cast::<AtomicU32>() };
        value.store(queue.map_or(0, |queue| queue + 1), Ordering::Relaxed);
    }
}

/// The program's instructions.
///
/// Offsets of `struct xdp_md`: data 0, its end 4, the queue 16. The ports' values are the queue's
/// number plus one, or zero.
fn instructions(ports: i32, sockets: i32) -> Vec<u64> {
    const PASS: i16 = i16::MIN;
    const XDP_PASS: i32 = 2;
    const LOOKUP: i32 = 1;
    const REDIRECT: i32 = 51;
    let headers = HEADERS as i32;
    let (r0, r1, r2, r3, r4, r5, r6, stack) = (0, 1, 2, 3, 4, 5, 6, 10);
    let mut program = vec![
        code(0xBF, r6, r1, 0, 0),        // r6 = context
        code(0x61, r2, r6, 0, 0),        // r2 = data
        code(0x61, r3, r6, 4, 0),        // r3 = end of data
        code(0xBF, r4, r2, 0, 0),        //
        code(0x07, r4, 0, 0, headers),   //
        code(0x2D, r4, r3, PASS, 0),     // shorter than the headers
        code(0x69, r5, r2, 12, 0),       //
        code(0xDC, r5, 0, 0, 16),        // in network order
        code(0x55, r5, 0, PASS, 0x800),  // not IPv4
        code(0x71, r5, r2, 14, 0),       //
        code(0x55, r5, 0, PASS, 0x45),   // with options
        code(0x69, r5, r2, 20, 0),       //
        code(0xDC, r5, 0, 0, 16),        //
        code(0x45, r5, 0, PASS, 0x3FFF), // a fragment
        code(0x71, r5, r2, 23, 0),       //
        code(0x55, r5, 0, PASS, 17),     // not UDP
        code(0x69, r5, r2, 36, 0),       //
        code(0xDC, r5, 0, 0, 16),        // r5 = the port
        code(0x63, stack, r5, -4, 0),    //
        code(0x18, r1, 1, 0, ports),     // r1 = the map of ports
        0,                               // (its second half)
        code(0xBF, r2, stack, 0, 0),     //
        code(0x07, r2, 0, 0, -4),        // r2 = where the port is
        code(0x85, 0, 0, 0, LOOKUP),     //
        code(0x15, r0, 0, PASS, 0),      // no such port: cannot be
        code(0x61, r5, r0, 0, 0),        // r5 = who claims it
        code(0x61, r2, r6, 16, 0),       // r2 = the queue
        code(0xBF, r4, r2, 0, 0),        //
        code(0x07, r4, 0, 0, 1),         //
        code(0x5D, r5, r4, PASS, 0),     // nobody, or of another queue
        code(0x18, r1, 1, 0, sockets),   // r1 = the map of sockets
        0,                               //
        code(0xB7, r3, 0, 0, XDP_PASS),  // if the queue has no socket
        code(0x85, 0, 0, 0, REDIRECT),   //
        code(0x95, 0, 0, 0, 0),          // return
    ];
    let pass = program.len();
    program.push(code(0xB7, r0, 0, 0, XDP_PASS));
    program.push(code(0x95, 0, 0, 0, 0));
    for (at, instruction) in program.iter_mut().enumerate() {
        if (*instruction >> 16) as i16 == PASS {
            *instruction = *instruction & !0xFFFF_0000 | ((pass - at - 1) as u64) << 16;
        }
    }
    program
}

/// One instruction: its operation, destination and source registers, offset and immediate value.
fn code(operation: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(operation)
        | u64::from(destination | source << 4) << 8
        | u64::from(offset as u16) << 16
        | u64::from(immediate as u32) << 32
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_kind: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    kind: u32,
    flags: u32,
}

fn new_map(kind: u32, entries: u32, flags: u32) -> io::Result<OwnedFd> {
    bpf(MAP_CREATE, &MapCreate { kind, key_bytes: 4, value_bytes: 4, entries, flags })
}

fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    let license = c"MIT";
    let mut name = [0; 16];
    name[..6].copy_from_slice(b"confab");
    bpf(
        PROGRAM_LOAD,
        &ProgramLoad {
            kind: PROGRAM_XDP,
            count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel: 0,
            flags: 0,
            name,
            interface: 0,
            attach_kind: ATTACH_XDP,
        },
    )
}

/// A command that makes something; gives its descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    let made = call(command, attributes)?;
    // SAFETY: the kernel just gave us this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(made as i32) })
}

fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is of the command's form, and what it points to lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn fd(of: &OwnedFd) -> u32 {
    of.as_raw_fd() as u32
}

fn address<T>(of: &T) -> u64 {
    std::ptr::from_ref(of) as u64
}
