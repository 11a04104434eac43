//! Linux capabilities: the default set, and what a task definition adds and drops.

use std::fs;

use crate::error::SandboxError;

macro_rules! capabilities {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// A capability, by the kernel's number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Cap {
            $($name = $number,)*
        }

        impl Cap {
            const ALL: &'static [(Cap, &'static str)] = &[$((Cap::$name, $text),)*];

            pub(crate) const fn bit(self) -> u64 {
                match self {
                    $(Cap::$name => 1 << $number,)*
                }
            }
        }
    };
}

capabilities! {
    Chown = 0, "CHOWN";
    DacOverride = 1, "DAC_OVERRIDE";
    DacReadSearch = 2, "DAC_READ_SEARCH";
    Fowner = 3, "FOWNER";
    Fsetid = 4, "FSETID";
    Kill = 5, "KILL";
    Setgid = 6, "SETGID";
    Setuid = 7, "SETUID";
    Setpcap = 8, "SETPCAP";
    LinuxImmutable = 9, "LINUX_IMMUTABLE";
    NetBindService = 10, "NET_BIND_SERVICE";
    NetBroadcast = 11, "NET_BROADCAST";
    NetAdmin = 12, "NET_ADMIN";
    NetRaw = 13, "NET_RAW";
    IpcLock = 14, "IPC_LOCK";
    IpcOwner = 15, "IPC_OWNER";
    SysModule = 16, "SYS_MODULE";
    SysRawio = 17, "SYS_RAWIO";
    SysChroot = 18, "SYS_CHROOT";
    SysPtrace = 19, "SYS_PTRACE";
    SysPacct = 20, "SYS_PACCT";
    SysAdmin = 21, "SYS_ADMIN";
    SysBoot = 22, "SYS_BOOT";
    SysNice = 23, "SYS_NICE";
    SysResource = 24, "SYS_RESOURCE";
    SysTime = 25, "SYS_TIME";
    SysTtyConfig = 26, "SYS_TTY_CONFIG";
    Mknod = 27, "MKNOD";
    Lease = 28, "LEASE";
    AuditWrite = 29, "AUDIT_WRITE";
    AuditControl = 30, "AUDIT_CONTROL";
    Setfcap = 31, "SETFCAP";
    MacOverride = 32, "MAC_OVERRIDE";
    MacAdmin = 33, "MAC_ADMIN";
    Syslog = 34, "SYSLOG";
    WakeAlarm = 35, "WAKE_ALARM";
    BlockSuspend = 36, "BLOCK_SUSPEND";
    AuditRead = 37, "AUDIT_READ";
    Perfmon = 38, "PERFMON";
    Bpf = 39, "BPF";
    CheckpointRestore = 40, "CHECKPOINT_RESTORE";
}

/// A set of capabilities, as the kernel's bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CapSet(pub(crate) u64);

impl CapSet {
    pub(crate) const NONE: Self = Self(0);

    /// What a container has unless told otherwise, as under Docker.
    pub(crate) const DEFAULT: Self = Self(
        Cap::Chown.bit()
            | Cap::DacOverride.bit()
            | Cap::Fowner.bit()
            | Cap::Fsetid.bit()
            | Cap::Kill.bit()
            | Cap::Setgid.bit()
            | Cap::Setuid.bit()
            | Cap::Setpcap.bit()
            | Cap::NetBindService.bit()
            | Cap::NetRaw.bit()
            | Cap::SysChroot.bit()
            | Cap::Mknod.bit()
            | Cap::AuditWrite.bit()
            | Cap::Setfcap.bit(),
    );

    /// All that this kernel knows.
    pub(crate) fn known() -> Self {
        let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap");
        let last: u32 = last.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(40);
        Self(u64::MAX >> (63 - last.min(63)))
    }

    /// All that there is to give: this host may itself have been denied some.
    pub(crate) fn all() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        let bounding = bounding.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        Self(bounding.unwrap_or(u64::MAX) & Self::known().0)
    }

    /// The container's set: the default one, without what is dropped, with what is added.
    pub(crate) fn resolve(add: &[String], drop: &[String]) -> Result<Self, SandboxError> {
        let is_all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
        let mut set = match (is_all(add), is_all(drop)) {
            (true, false) => Self::all(),
            (false, false) => Self::DEFAULT,
            // Everything is dropped, and only what is named comes back.
            (true | false, true) => Self::NONE,
        };
        let there = Self::all();
        for (names, is_added) in [(drop, false), (add, true)] {
            for name in names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
                let bit = parse(name)?.bit();
                set.0 = if is_added { set.0 | bit } else { set.0 & !bit };
            }
        }
        Ok(Self(set.0 & there.0))
    }

    /// As the OCI runtime specification names them.
    pub(crate) fn names(self) -> Vec<String> {
        let held = Cap::ALL.iter().filter(|(capability, _)| self.has(*capability));
        held.map(|(_, text)| format!("CAP_{text}")).collect()
    }

    pub(crate) fn has(self, capability: Cap) -> bool {
        self.0 & capability.bit() != 0
    }

    #[cfg(test)]
    pub(crate) fn with(self, capability: Cap) -> Self {
        Self(self.0 | capability.bit())
    }
}

fn parse(name: &str) -> Result<Cap, SandboxError> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let found = Cap::ALL.iter().find(|(_, text)| *text == bare);
    found.map(|(capability, _)| *capability).ok_or_else(|| SandboxError::Invalid {
        what: "capability".into(),
        why: format!("there is no capability {name:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_dropped_goes_and_what_is_added_comes() {
        let set = CapSet::resolve(&names(&["CAP_SYS_PTRACE"]), &names(&["net_raw"])).unwrap();
        assert!(set.has(Cap::SysPtrace) && !set.has(Cap::NetRaw) && set.has(Cap::Chown));
        let one = CapSet::resolve(&names(&["CHOWN"]), &names(&["ALL"])).unwrap();
        assert_eq!(one.0, Cap::Chown.bit());
        assert!(CapSet::resolve(&names(&["SYS_EVERYTHING"]), &[]).is_err());
    }

    #[test]
    fn everything_but_one() {
        let set = CapSet::resolve(&names(&["ALL"]), &names(&["SYS_ADMIN"])).unwrap();
        assert!(set.has(Cap::SysBoot) && !set.has(Cap::SysAdmin));
    }
}
