//! Which devices a container may open or make: a whitelist.
//!
//! Version 1 has a controller that takes the rules as text. Version 2 asks a small program that is
//! attached to the group; it is assembled here from the same rules.

use std::fmt;
use std::fs::File;
use std::path::Path;

use crate::error::SandboxError;
use crate::sys::{self, BpfInsn};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Char,
    Block,
}

/// Allows something. No number stands for every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceRule {
    pub(crate) kind: DeviceKind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) mknod: bool,
}

impl fmt::Display for DeviceRule {
    /// As the version 1 controller reads it: `c 1:3 rwm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
        };
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (is_allowed, letter) in [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')] {
            if is_allowed {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// Making any node, using the harmless ones.
pub(crate) fn default_rules() -> Vec<DeviceRule> {
    let make = |kind| DeviceRule {
        kind,
        major: None,
        minor: None,
        read: false,
        write: false,
        mknod: true,
    };
    let mut rules = vec![make(DeviceKind::Char), make(DeviceKind::Block)];
    // null, zero, full, random, urandom, tty, console, ptmx, the pseudo terminals.
    let harmless = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    let harmless = harmless.map(|(major, minor)| (major, Some(minor)));
    rules.extend(harmless.into_iter().chain([(136, None)]).map(|(major, minor)| DeviceRule {
        kind: DeviceKind::Char,
        major: Some(major),
        minor,
        read: true,
        write: true,
        mknod: true,
    }));
    rules
}

/// Makes the version 2 group `dir` allow what `rules` name and nothing else.
pub(super) fn attach(dir: &Path, rules: &[DeviceRule]) -> Result<(), SandboxError> {
    let refused = |why: std::io::Error| SandboxError::Limit {
        what: "devices".into(),
        value: format!("{} rules", rules.len()),
        why: why.to_string(),
    };
    let group = File::open(dir).map_err(refused)?;
    sys::attach_device_program(&group, &program(rules)).map_err(refused)
}

/// Registers: 2 the kind, 3 the access asked for, 4 the major and 5 the minor number.
fn program(rules: &[DeviceRule]) -> Vec<BpfInsn> {
    const KIND: u8 = 2;
    const ACCESS: u8 = 3;
    const MAJOR: u8 = 4;
    const MINOR: u8 = 5;
    const SCRATCH: u8 = 6;

    let mut program = vec![
        BpfInsn::load_context(KIND, 0),
        BpfInsn::copy(ACCESS, KIND),
        BpfInsn::shift_right(ACCESS, 16),
        BpfInsn::and(KIND, 0xffff),
        BpfInsn::load_context(MAJOR, 4),
        BpfInsn::load_context(MINOR, 8),
    ];
    for rule in rules {
        let mut checks = Vec::new();
        let kind = match rule.kind {
            DeviceKind::Block => 1,
            DeviceKind::Char => 2,
        };
        checks.push((KIND, kind));
        checks.extend(rule.major.map(|major| (MAJOR, number(major))));
        checks.extend(rule.minor.map(|minor| (MINOR, number(minor))));
        let allowed =
            i32::from(rule.mknod) | i32::from(rule.read) << 1 | i32::from(rule.write) << 2;
        // What is asked for beyond what is allowed must be nothing.
        checks.push((SCRATCH, 0));
        let to_next = |done: usize, after: i16| {
            let left = i16::try_from(checks.len() - done - 1).expect("a rule has four checks");
            left + after
        };
        program.push(BpfInsn::copy(SCRATCH, ACCESS));
        program.push(BpfInsn::and(SCRATCH, 7 & !allowed));
        for (done, (register, value)) in checks.iter().enumerate() {
            program.push(BpfInsn::jump_unless_equal(*register, *value, to_next(done, 2)));
        }
        program.extend([BpfInsn::set(0, 1), BpfInsn::EXIT]);
    }
    program.extend([BpfInsn::set(0, 0), BpfInsn::EXIT]);
    program
}

fn number(device: u32) -> i32 {
    i32::try_from(device).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_the_kernel_wants_them() {
        let texts: Vec<String> = default_rules().iter().map(ToString::to_string).collect();
        assert_eq!(texts[..3], ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert!(texts.contains(&"c 136:* rwm".to_owned()));
    }
    /// Version 2 can be mounted beside version 1, and programs attached to it act in any case.
    #[test]
    fn the_program_lets_harmless_devices_through_and_no_other() {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let Some(mount) = table
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .filter(|_| nix::unistd::geteuid().is_root())
            .and_then(|line| line.split(' ').nth(4))
        else {
            eprintln!("skipped: needs root and a mounted cgroup2");
            return;
        };
        let dir = Path::new(mount).join(format!("longshore-devices-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        attach(&dir, &default_rules()).unwrap();
        let node = tempfile::tempdir().unwrap();
        let script = format!(
            "echo 0 > {}/cgroup.procs && head -c1 /dev/zero > /dev/null && echo zero; \
             mknod {node}/mem c 1 1 && echo made; \
             head -c1 {node}/mem > /dev/null 2>&1 || echo refused",
            dir.display(),
            node = node.path().display(),
        );
        let shell = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        std::fs::remove_dir(&dir).unwrap();
        assert_eq!(String::from_utf8_lossy(&shell.stdout), "zero\nmade\nrefused\n");
    }
}
