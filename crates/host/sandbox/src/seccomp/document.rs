//! The same filter in the words of the OCI runtime specification, for runtimes that compile their own.
//!
//! These have no word for an argument that is none of some values, so that what is left is written out. What
//! they do not know by its name, they leave out, which refuses it.

use serde_json::{Value, json};

use super::allowed;
use super::table::{self, Condition, Pattern, Sockets};
use crate::caps::{Cap, CapSet};

const ALLOW: &str = "SCMP_ACT_ALLOW";
const REFUSE: &str = "SCMP_ACT_ERRNO";
const EQUAL: &str = "SCMP_CMP_EQ";
const EQUAL_MASKED: &str = "SCMP_CMP_MASKED_EQ";
#[cfg(target_arch = "x86_64")]
const NATIVE: &str = "SCMP_ARCH_X86_64";
#[cfg(target_arch = "aarch64")]
const NATIVE: &str = "SCMP_ARCH_AARCH64";
/// The families of addresses that there are, and some that there may be.
const FAMILIES: u32 = 64;
/// Kinds of sockets are the low four bits of what is asked for.
const KINDS: u32 = 16;
const KIND_MASK: u32 = 0xf;

/// The default profile for a container with these capabilities and sockets.
pub(crate) fn document(held: CapSet, sockets: Sockets) -> Value {
    let is_admin = held.has(Cap::SysAdmin);
    let conditional = table::conditional(is_admin, sockets);
    let mut names: Vec<&str> = allowed(held).into_iter().map(|call| call.name()).collect();
    // A rule with conditions says nothing beside one without.
    names.retain(|name| conditional.iter().all(|(call, _)| call.name() != *name));
    names.sort_unstable();
    names.dedup();
    let absent: Vec<&str> = table::missing(is_admin).iter().map(|call| call.name()).collect();
    let mut rules = vec![json!({ "names": names, "action": ALLOW })];
    if !absent.is_empty() {
        rules.push(json!({ "names": absent, "action": REFUSE, "errnoRet": libc::ENOSYS }));
    }
    for (call, conditions) in conditional {
        let each = conditions.into_iter().flat_map(arguments);
        rules.extend(each.map(
            |arguments| json!({ "names": [call.name()], "action": ALLOW, "args": arguments }),
        ));
    }
    json!({
        "defaultAction": REFUSE,
        "defaultErrnoRet": libc::EPERM,
        "architectures": [NATIVE],
        "syscalls": rules,
    })
}

/// What must hold together; each list is a rule of its own.
fn arguments(condition: Condition) -> Vec<Vec<Value>> {
    match condition {
        Condition::Equals { argument, value } => {
            vec![vec![json!({ "index": argument, "value": value, "op": EQUAL })]]
        }
        Condition::Clear { argument, mask } => vec![vec![masked(argument, mask, 0)]],
        Condition::NoneOf(patterns) => none_of(patterns),
    }
}

fn none_of(patterns: &[Pattern]) -> Vec<Vec<Value>> {
    let is_refused = |argument: u8, value: u32| {
        let its = patterns.iter().filter(|pattern| pattern.argument == argument);
        its.clone().any(|pattern| value & pattern.mask == pattern.value)
    };
    let families = (0..FAMILIES).filter(|family| !is_refused(0, *family));
    let family = |family: u32| masked(0, u32::MAX.into(), family.into());
    if patterns.iter().all(|pattern| pattern.argument == 0) {
        return families.map(|it| vec![family(it)]).collect();
    }
    let kinds: Vec<u32> = (0..KINDS).filter(|kind| !is_refused(1, *kind)).collect();
    let kind = |kind: &u32| masked(1, KIND_MASK.into(), (*kind).into());
    families.flat_map(|it| kinds.iter().map(move |each| vec![family(it), kind(each)])).collect()
}

fn masked(argument: u8, mask: u64, value: u64) -> Value {
    json!({ "index": argument, "value": mask, "valueTwo": value, "op": EQUAL_MASKED })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(document: &Value, name: &str) -> Vec<Value> {
        let all = document["syscalls"].as_array().unwrap().iter();
        let of = |rule: &&Value| rule["names"].as_array().unwrap().iter().any(|it| it == name);
        all.filter(of).cloned().collect()
    }

    #[test]
    fn the_document_allows_what_the_filter_allows() {
        let plain = document(CapSet::DEFAULT, Sockets::Usual);
        assert_eq!(
            (&plain["defaultAction"], &plain["defaultErrnoRet"]),
            (&json!(REFUSE), &json!(1))
        );
        for name in ["read", "execve", "io_pgetevents", "chroot", "cachestat"] {
            let rules = rules(&plain, name);
            assert_eq!(rules.len(), 1, "{name}");
            assert_eq!((&rules[0]["action"], &rules[0]["args"]), (&json!(ALLOW), &Value::Null));
        }
        for name in ["mount", "bpf", "keyctl", "unshare", "io_uring_setup"] {
            assert_eq!(rules(&plain, name), Vec::<Value>::new(), "{name}");
        }
        assert_eq!(rules(&plain, "clone3")[0]["errnoRet"], json!(38));
        assert_eq!(rules(&plain, "clone")[0]["args"], json!([masked(0, 0x7e02_0000, 0)]));
        assert_eq!(rules(&plain, "personality").len(), 5);
        let admin = document(CapSet::DEFAULT.with(Cap::SysAdmin), Sockets::Usual);
        let clone = rules(&admin, "clone");
        assert_eq!((clone.len(), &clone[0]["args"]), (1, &Value::Null));
        assert_eq!(rules(&admin, "mount").len(), 1);
    }

    #[test]
    fn sockets_are_those_that_no_pattern_refuses() {
        let may = |sockets, family: u64, kind: u64| {
            let holds = |rule: &Value| {
                rule["args"].as_array().unwrap().iter().all(|it| {
                    let given =
                        [family, kind][usize::try_from(it["index"].as_u64().unwrap()).unwrap()];
                    given & it["value"].as_u64().unwrap() == it["valueTwo"].as_u64().unwrap()
                })
            };
            rules(&document(CapSet::DEFAULT, sockets), "socket").iter().any(holds)
        };
        for (family, kind, usual, judged) in [
            (2, 1, true, true),
            (2, 0o2_000_001, true, true),
            (16, 3, true, true),
            (17, 3, true, false),
            (44, 3, true, false),
            (2, 10, true, false),
            (40, 1, false, false),
            ((1 << 32) | 40, 1, false, false),
        ] {
            assert_eq!(may(Sockets::Usual, family, kind), usual, "{family} {kind}");
            assert_eq!(may(Sockets::Judged, family, kind), judged, "{family} {kind}");
        }
    }
}
