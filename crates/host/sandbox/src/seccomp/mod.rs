//! The system call filter of containers, compiled here into the kernel's filter language.
//!
//! No library does this for us: the program is small, a container start should not spend the
//! milliseconds that a general compiler takes on a profile, and the build stays free of system
//! packages. The kernel caches what a filter says about a call whose arguments it does not look
//! at, so that the length of the list costs nothing while the application runs.
//!
//! **Invariant:** what no rule names is refused with `EPERM`; a call of another architecture's
//! numbering, and one newer than the table, with `ENOSYS`.

mod document;
mod table;

use libc::{c_long, sock_filter};

use crate::caps::CapSet;
use table::{Call, Condition};

pub(crate) use document::document;
pub(crate) use table::Sockets;

/// Offsets into the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the system call table is made for x86_64 and aarch64");

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_ABOVE: u16 = 0x25;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 | 1;
const ABSENT: u32 = 0x0005_0000 | 38;

/// A program ready to be given to the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) program: Vec<sock_filter>,
}

impl Filter {
    /// The default profile for a container with these capabilities and sockets.
    pub(crate) fn new(held: CapSet, sockets: Sockets) -> Self {
        let is_admin = held.has(crate::caps::Cap::SysAdmin);
        let mut allowed = allowed(held).into_iter().map(|call| call.number).collect();
        let mut program = preamble();
        for call in table::missing(is_admin) {
            program.extend([jump(JUMP_IF_EQUAL, number(call.number), 0, 1), give(ABSENT)]);
        }
        for (call, conditions) in table::conditional(is_admin, sockets) {
            program.extend(one_call(call.number, &conditions));
        }
        for (first, last) in ranges(&mut allowed) {
            // Above it: on to the next range. Within: allowed. Below: between two ranges.
            program.push(jump(JUMP_IF_ABOVE, last, 3, 0));
            program.push(jump(JUMP_IF_AT_LEAST, first, 0, 1));
            program.push(give(ALLOW));
            program.push(give(REFUSE));
        }
        program.push(give(REFUSE));
        Self { program }
    }
}

/// Allowed whatever the arguments.
fn allowed(held: CapSet) -> Vec<Call> {
    let mut calls = table::always();
    for (capability, its) in table::WITH_CAPABILITY {
        if held.has(*capability) {
            calls.extend_from_slice(its);
        }
    }
    calls
}

/// Sends foreign numberings away and leaves the call's number in the accumulator.
fn preamble() -> Vec<sock_filter> {
    vec![
        load(ARCHITECTURE),
        jump(JUMP_IF_EQUAL, NATIVE, 1, 0),
        give(ABSENT),
        load(NUMBER),
        // The x32 numbering begins at 1 << 30, far above.
        jump(JUMP_IF_ABOVE, number(table::LAST_KNOWN), 0, 1),
        give(ABSENT),
    ]
}

/// Decides `call` if that is the one; the accumulator still holds the number if it is not.
fn one_call(call: c_long, any_of: &[Condition]) -> Vec<sock_filter> {
    let mut body = Vec::new();
    for condition in any_of {
        body.extend(check(*condition));
    }
    body.push(give(REFUSE));
    let length = u8::try_from(body.len()).expect("a rule has a handful of conditions");
    body.insert(0, jump(JUMP_IF_EQUAL, number(call), 0, length));
    body
}

/// Allows if the condition holds and falls through if not.
fn check(condition: Condition) -> Vec<sock_filter> {
    let low = |argument: u8| load(ARGUMENTS + 8 * u32::from(argument));
    let high = |argument: u8| load(ARGUMENTS + 8 * u32::from(argument) + 4);
    let halves = |value: u64| {
        let low = u32::try_from(value & u64::from(u32::MAX)).expect("masked to 32 bits");
        let high = u32::try_from(value >> 32).expect("shifted to 32 bits");
        (low, high)
    };
    match condition {
        Condition::Equals { argument, value } => {
            let (want_low, want_high) = halves(value);
            vec![
                low(argument),
                jump(JUMP_IF_EQUAL, want_low, 0, 3),
                high(argument),
                jump(JUMP_IF_EQUAL, want_high, 0, 1),
                give(ALLOW),
            ]
        }
        Condition::NoneOf(patterns) => {
            let mut steps = Vec::new();
            for (at, pattern) in patterns.iter().enumerate() {
                let left = u8::try_from(3 * (patterns.len() - at - 1)).expect("a handful");
                steps.extend([
                    low(pattern.argument),
                    sock_filter { code: AND, jt: 0, jf: 0, k: pattern.mask },
                    jump(JUMP_IF_EQUAL, pattern.value, left + 1, 0),
                ]);
            }
            steps.push(give(ALLOW));
            steps
        }
        Condition::Clear { argument, mask } => {
            let (mask_low, _) = halves(mask);
            assert!(mask <= u64::from(u32::MAX), "flags of clone are in the low half");
            vec![
                low(argument),
                sock_filter { code: AND, jt: 0, jf: 0, k: mask_low },
                jump(JUMP_IF_EQUAL, 0, 0, 1),
                give(ALLOW),
            ]
        }
    }
}

/// The numbers as ascending runs without gaps.
fn ranges(calls: &mut Vec<c_long>) -> Vec<(u32, u32)> {
    calls.sort_unstable();
    calls.dedup();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for call in calls {
        let call = number(*call);
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == call => *last = call,
            _ => runs.push((call, call)),
        }
    }
    runs
}

fn number(call: c_long) -> u32 {
    u32::try_from(call).expect("system call numbers are small")
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: LOAD, jt: 0, jf: 0, k: offset }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn give(answer: u32) -> sock_filter {
    sock_filter { code: RETURN, jt: 0, jf: 0, k: answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caps::Cap;

    /// What the kernel would answer, by the rules of its filter language.
    fn answer(filter: &Filter, arch: u32, call: u32, arguments: [u64; 2]) -> u32 {
        let mut data = [0_u32; 16];
        data[0] = call;
        data[1] = arch;
        for (at, argument) in arguments.into_iter().enumerate() {
            data[4 + 2 * at] = u32::try_from(argument & 0xffff_ffff).unwrap();
            data[5 + 2 * at] = u32::try_from(argument >> 32).unwrap();
        }
        let (mut accumulator, mut at) = (0_u32, 0_usize);
        loop {
            let step = filter.program[at];
            at += 1;
            let is_taken = match step.code {
                LOAD => {
                    accumulator = data[usize::try_from(step.k / 4).unwrap()];
                    continue;
                }
                AND => {
                    accumulator &= step.k;
                    continue;
                }
                RETURN => return step.k,
                JUMP_IF_EQUAL => accumulator == step.k,
                JUMP_IF_ABOVE => accumulator > step.k,
                JUMP_IF_AT_LEAST => accumulator >= step.k,
                other => panic!("unknown instruction {other}"),
            };
            at += usize::from(if is_taken { step.jt } else { step.jf });
        }
    }

    fn native(filter: &Filter, call: c_long, argument: u64) -> u32 {
        answer(filter, NATIVE, number(call), [argument, 0])
    }

    #[test]
    fn a_plain_container_may_work_but_not_touch_the_host() {
        let filter = Filter::new(CapSet::DEFAULT, Sockets::Usual);
        for Call { number, .. } in table::always() {
            assert_eq!(native(&filter, number, 0), ALLOW, "call {number}");
        }
        for call in [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_open_by_handle_at,
            libc::SYS_pivot_root,
            libc::SYS_swapon,
            libc::SYS_syslog,
        ] {
            assert_eq!(native(&filter, call, 0), REFUSE, "call {call}");
        }
        assert_eq!(native(&filter, libc::SYS_chroot, 0), ALLOW, "CAP_SYS_CHROOT is a default");
    }

    #[test]
    fn arguments_decide_where_they_must() {
        let filter = Filter::new(CapSet::DEFAULT, Sockets::Usual);
        assert_eq!(native(&filter, libc::SYS_clone, 0x3d_0f00), ALLOW);
        assert_eq!(native(&filter, libc::SYS_clone, 0x1000_0000), REFUSE, "a user namespace");
        assert_eq!(native(&filter, libc::SYS_clone3, 0), ABSENT);
        assert_eq!(native(&filter, libc::SYS_socket, 2), ALLOW);
        assert_eq!(native(&filter, libc::SYS_socket, 40), REFUSE);
        assert_eq!(
            native(&filter, libc::SYS_socket, (1 << 32) | 40),
            REFUSE,
            "an int to the kernel"
        );
        assert_eq!(native(&filter, libc::SYS_personality, 0xffff_ffff), ALLOW);
        assert_eq!(native(&filter, libc::SYS_personality, 0x0040_0000), REFUSE);
    }

    #[test]
    fn judged_sockets_are_those_that_pass_the_hosts_table() {
        const INET: u64 = 2;
        const PACKET: u64 = 17;
        const XDP: u64 = 44;
        const RAW_KIND: u64 = 3;
        const OLD_PACKET_KIND: u64 = 10;
        const CLOEXEC: u64 = 0o2_000_000;
        let of = |sockets| Filter::new(CapSet::DEFAULT, sockets);
        let socket = |filter: &Filter, arguments| {
            answer(filter, NATIVE, number(libc::SYS_socket), arguments)
        };
        let judged = of(Sockets::Judged);
        assert_eq!(socket(&judged, [INET, RAW_KIND]), ALLOW);
        assert_eq!(socket(&of(Sockets::Usual), [PACKET, RAW_KIND]), ALLOW);
        for arguments in [
            [PACKET, RAW_KIND],
            [PACKET | 7 << 32, RAW_KIND],
            [XDP, RAW_KIND],
            [INET, OLD_PACKET_KIND],
            [INET, OLD_PACKET_KIND | CLOEXEC],
            [INET, OLD_PACKET_KIND | 1 << 40],
        ] {
            assert_eq!(socket(&judged, arguments), REFUSE, "{arguments:x?}");
        }
    }

    #[test]
    fn capabilities_open_what_belongs_to_them() {
        let filter = Filter::new(CapSet::DEFAULT.with(Cap::SysAdmin), Sockets::Usual);
        assert_eq!(native(&filter, libc::SYS_mount, 0), ALLOW);
        assert_eq!(native(&filter, libc::SYS_clone, 0x1000_0000), ALLOW);
        assert_eq!(native(&filter, libc::SYS_clone3, 0), ALLOW);
        assert_eq!(native(&filter, libc::SYS_reboot, 0), REFUSE);
    }

    #[test]
    fn other_numberings_and_unknown_calls_do_not_exist() {
        let filter = Filter::new(CapSet::DEFAULT, Sockets::Usual);
        assert_eq!(answer(&filter, 0x4000_0003, 11, [0; 2]), ABSENT, "32 bit");
        assert_eq!(answer(&filter, NATIVE, 0x4000_0000 | 1, [0; 2]), ABSENT, "x32");
        assert_eq!(answer(&filter, NATIVE, 999, [0; 2]), ABSENT, "from the future");
    }
}
