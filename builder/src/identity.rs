//! Users and groups as an image names them: its /etc/passwd and /etc/group, read from its layers.

use crate::error::BuildError;
use crate::tree::{Tree, resolve};
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::Kind;

/// A passwd or group file larger than this is not read: the reference's own bound.
pub const DATABASE_BYTES_MAX: u64 = 10 << 20;

/// Reads small files of an image.
pub trait FileReader {
    /// The bytes of the regular file at `path`, which is known to be there and within bounds.
    fn read(&self, path: &LayerPath) -> Result<Vec<u8>, BuildError>;
}

/// One line of /etc/passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// One line of /etc/group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Number.
    pub gid: u32,
    /// Names of the members.
    pub members: Vec<String>,
}

/// An image's users and groups; either file may be missing.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

/// Whom a step runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepIdentity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory by the image's passwd, `/` when it has none.
    pub home: String,
}

impl Accounts {
    /// Read both files of an image.
    pub fn read(tree: &dyn Tree, reader: &dyn FileReader) -> Result<Self, BuildError> {
        let passwd = database(tree, reader, b"/etc/passwd")?;
        let group = database(tree, reader, b"/etc/group")?;
        Ok(Self { users: parse_users(&passwd), groups: parse_groups(&group) })
    }

    /// `--chown`: numbers as they are, names from the image; a user alone brings its group.
    pub fn owner(&self, text: &str) -> Result<(u32, u32), BuildError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let (uid, own_gid) = self.user_ids(user)?;
        let gid = match group {
            None => own_gid,
            // `app:` is a group that is named and empty: nobody's, so root's.
            Some("") => 0,
            Some(name) => self.group_id(name)?,
        };
        Ok((uid, gid))
    }

    /// The owner of directories that WORKDIR makes; a name that is not known owns nothing, so root does.
    pub fn workdir_owner(&self, user: &str) -> (u32, u32) {
        if user.is_empty() { (0, 0) } else { self.owner(user).unwrap_or((0, 0)) }
    }

    fn user_ids(&self, user: &str) -> Result<(u32, u32), BuildError> {
        if let Some(uid) = number(user) {
            return Ok((uid, uid));
        }
        if user.is_empty() || user == "root" {
            return Ok(self.user(user).map_or((0, 0), |u| (u.uid, u.gid)));
        }
        let found = self.user(user).ok_or_else(|| unknown("user", user, "passwd"))?;
        Ok((found.uid, found.gid))
    }

    fn group_id(&self, name: &str) -> Result<u32, BuildError> {
        if let Some(gid) = number(name) {
            return Ok(gid);
        }
        match self.groups.iter().find(|g| g.name == name) {
            Some(group) => Ok(group.gid),
            None if name == "root" => Ok(0),
            None => Err(unknown("group", name, "group")),
        }
    }

    fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|u| u.name == name)
    }

    /// USER as RUN takes it.
    pub fn step(&self, text: &str) -> Result<StepIdentity, BuildError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let entry = match number(user) {
            Some(uid) => self.users.iter().find(|u| u.uid == uid),
            None if user.is_empty() => self.users.iter().find(|u| u.uid == 0),
            None => Some(self.user(user).ok_or_else(|| unknown("user", user, "passwd"))?),
        };
        let uid = entry.map_or_else(|| number(user).unwrap_or(0), |u| u.uid);
        let (gid, mut groups) = match group.filter(|g| !g.is_empty()) {
            Some(name) => (self.group_id(name)?, Vec::new()),
            None => (entry.map_or(0, |u| u.gid), self.supplementary(entry)),
        };
        // As the reference has it, the group itself is among the supplementary ones.
        groups.retain(|g| *g != gid);
        groups.insert(0, gid);
        // The home directory goes by number, whatever name was used.
        let home = self.users.iter().find(|u| u.uid == uid).map(|u| u.home.clone());
        let home = home.filter(|h| !h.is_empty()).unwrap_or_else(|| "/".to_owned());
        Ok(StepIdentity { uid, gid, groups, home })
    }

    fn supplementary(&self, user: Option<&User>) -> Vec<u32> {
        let Some(user) = user else { return Vec::new() };
        let member = |g: &&Group| g.members.contains(&user.name);
        self.groups.iter().filter(member).map(|g| g.gid).collect()
    }
}

fn unknown(kind: &'static str, name: &str, file: &'static str) -> BuildError {
    BuildError::UnknownName { kind, name: name.to_owned(), file }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// The bytes of one of the two files; empty when it is not there or not a regular file of sane size.
fn database(tree: &dyn Tree, reader: &dyn FileReader, path: &[u8]) -> Result<Vec<u8>, BuildError> {
    let Some(at) = resolve(tree, path, true)?.found() else { return Ok(Vec::new()) };
    match tree.get(&at)? {
        Some(node) if node.kind == Kind::File && node.size <= DATABASE_BYTES_MAX => {
            reader.read(&at)
        }
        _ => Ok(Vec::new()),
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = Vec<String>> {
    bytes
        .split(|&b| b == b'\n')
        .map(|line| String::from_utf8_lossy(line).trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').map(str::to_owned).collect())
}

fn parse_users(bytes: &[u8]) -> Vec<User> {
    lines(bytes)
        .map(|f| User {
            name: field(&f, 0),
            uid: field(&f, 2).parse().unwrap_or(0),
            gid: field(&f, 3).parse().unwrap_or(0),
            home: field(&f, 5),
        })
        .collect()
}

fn parse_groups(bytes: &[u8]) -> Vec<Group> {
    lines(bytes)
        .map(|f| Group {
            name: field(&f, 0),
            gid: field(&f, 2).parse().unwrap_or(0),
            members: field(&f, 3).split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect(),
        })
        .collect()
}

fn field(fields: &[String], at: usize) -> String {
    fields.get(at).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            users: parse_users(
                b"root:x:0:0:root:/root:/bin/sh\n# no\napp:x:1000:1001::/home/app:\n",
            ),
            groups: parse_groups(b"root:x:0:\napp:x:1001:\nextra:x:7:app,root\n"),
        }
    }

    #[test]
    fn owners() {
        let a = accounts();
        assert_eq!(a.owner("app").unwrap(), (1000, 1001));
        assert_eq!(a.owner("5").unwrap(), (5, 5));
        assert_eq!(a.owner("5:extra").unwrap(), (5, 7));
        assert_eq!(a.owner("root").unwrap(), (0, 0));
        assert!(matches!(a.owner("who"), Err(BuildError::UnknownName { kind: "user", .. })));
        assert!(matches!(a.owner("5:who"), Err(BuildError::UnknownName { kind: "group", .. })));
    }

    #[test]
    fn steps() {
        let a = accounts();
        let app = a.step("app").unwrap();
        assert_eq!(
            (app.uid, app.gid, app.groups.as_slice(), app.home.as_str()),
            (1000, 1001, &[1001, 7][..], "/home/app")
        );
        let root = a.step("").unwrap();
        assert_eq!(
            (root.uid, root.gid, root.groups.as_slice(), root.home.as_str()),
            (0, 0, &[0, 7][..], "/root")
        );
        let other = a.step("99").unwrap();
        assert_eq!(
            (other.uid, other.gid, other.groups.len(), other.home.as_str()),
            (99, 0, 1, "/")
        );
        let grouped = a.step("app:5").unwrap();
        assert_eq!((grouped.gid, grouped.groups.len()), (5, 1));
        assert!(a.step("who").is_err());
    }
}
