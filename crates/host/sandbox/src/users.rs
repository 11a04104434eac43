//! Who a container runs as: a `user[:group]` of the task definition or image, looked up in the
//! image's own passwd and group files.

use ::files::Dir;

use crate::error::{Doing, SandboxError};
use crate::rootfs;

/// What the kernel needs to know of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Looks `wanted` up inside `root`. A number needs no entry; a name does.
pub(crate) fn resolve(
    root: &Dir,
    wanted: &str,
    additional_gids: &[u32],
) -> Result<Identity, SandboxError> {
    let passwd = rootfs::read(root, "/etc/passwd").doing("read the image's passwd file")?;
    let group = rootfs::read(root, "/etc/group").doing("read the image's group file")?;
    identify(
        passwd.as_deref().unwrap_or_default(),
        group.as_deref().unwrap_or_default(),
        wanted,
        additional_gids,
    )
}

fn identify(
    passwd: &str,
    group: &str,
    wanted: &str,
    additional_gids: &[u32],
) -> Result<Identity, SandboxError> {
    let (user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = passwd
        .lines()
        .filter_map(Entry::parse)
        .find(|entry| entry.name == user || user.parse().is_ok_and(|uid: u32| entry.uid == uid));
    let uid = match (&entry, user.parse::<u32>()) {
        (Some(entry), _) => entry.uid,
        (None, Ok(uid)) if i32::try_from(uid).is_ok() => uid,
        (None, _) => return Err(SandboxError::NoSuchUser { user: user.to_owned() }),
    };
    let gid = match wanted_group {
        Some(wanted) => group_id(group, wanted)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut groups: Vec<u32> = match (&entry, wanted_group) {
        // A group that was named replaces those that the image lists.
        (Some(entry), None) => memberships(group, entry.name),
        (Some(_) | None, _) => Vec::new(),
    };
    groups.extend_from_slice(additional_gids);
    groups.sort_unstable();
    groups.dedup();
    let home = entry.as_ref().map(|entry| entry.home).filter(|home| !home.is_empty());
    Ok(Identity { uid, gid, groups, home: home.unwrap_or("/").to_owned() })
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    /// `name:password:uid:gid:comment:home:shell`
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    }
}

/// `name:password:gid:member,member`
fn group_lines(file: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    file.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn group_id(file: &str, wanted: &str) -> Result<u32, SandboxError> {
    let number = wanted.parse::<u32>().ok().filter(|gid| i32::try_from(*gid).is_ok());
    let named = group_lines(file).find(|(name, _, _)| *name == wanted).map(|(_, gid, _)| gid);
    named.or(number).ok_or_else(|| SandboxError::NoSuchGroup { group: wanted.to_owned() })
}

fn memberships(file: &str, user: &str) -> Vec<u32> {
    group_lines(file)
        .filter(|(_, _, members)| members.split(',').any(|member| member.trim() == user))
        .map(|(_, gid, _)| gid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# no:x:7:7\nweb:x:101:102::/srv/web:\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\naudio:x:29:web,other\n9:x:42:\n";

    fn who(wanted: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        identify(PASSWD, GROUP, wanted, &[])
            .map(|who| (who.uid, who.gid, who.groups, who.home))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_numbers_mean_the_same_entry() {
        let web = Ok((101, 102, vec![29], "/srv/web".to_owned()));
        assert_eq!(who("web"), web);
        assert_eq!(who("101"), web);
        assert_eq!(who(""), Ok((0, 0, vec![], "/root".to_owned())));
    }

    #[test]
    fn a_number_needs_no_entry_and_a_name_does() {
        assert_eq!(who("4711"), Ok((4711, 0, vec![], "/".to_owned())));
        assert_eq!(who("4711:12"), Ok((4711, 12, vec![], "/".to_owned())));
        assert!(who("nobody").unwrap_err().contains("unable to find user nobody"));
        assert!(who("web:nogroup").unwrap_err().contains("unable to find group nogroup"));
        assert!(who("-1").is_err() && who("4294967295").is_err());
    }

    #[test]
    fn a_named_group_replaces_the_listed_ones() {
        assert_eq!(who("web:audio"), Ok((101, 29, vec![], "/srv/web".to_owned())));
        assert_eq!(who("web:9"), Ok((101, 42, vec![], "/srv/web".to_owned())), "a name first");
        assert_eq!(identify(PASSWD, GROUP, "web", &[7, 29]).unwrap().groups, [7, 29]);
    }
}
