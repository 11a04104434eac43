//! Reading the log: from its beginning, and on as it grows.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::writer::{numbers, path_of};
use super::{Decision, Entry, Line};

/// Which lines are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In a principal's ARN, or an access key id.
    pub principal: Option<String>,
    /// An action, in whatever case; `ecs:*` and `*` too.
    pub action: Option<String>,
    pub only_denied: bool,
}

impl Filter {
    pub fn wants(&self, entry: &Entry) -> bool {
        let is_principals = self.principal.as_ref().is_none_or(|wanted| {
            entry.principal.contains(wanted.as_str()) || entry.access_key_id == *wanted
        });
        let is_action = self.action.as_ref().is_none_or(|wanted| {
            let other = entry.denied_action.as_deref();
            [Some(entry.action.as_str()), other].into_iter().flatten().any(|it| is(it, wanted))
        });
        let is_decision = !self.only_denied || entry.decision == Decision::Denied;
        is_principals && is_action && is_decision
    }
}

fn is(action: &str, wanted: &str) -> bool {
    let (action, wanted) = (action.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    match wanted.strip_suffix('*') {
        Some(start) => action.starts_with(start),
        None => action == wanted || action.split(':').nth(1) == Some(&wanted),
    }
}

/// Goes through the files in their order.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    number: u64,
    offset: u64,
}

impl Reader {
    /// From the oldest line that is there.
    pub fn from_start(dir: &Path) -> io::Result<Self> {
        let number = numbers(dir)?.first().copied().unwrap_or(1);
        Ok(Self { dir: dir.to_owned(), number, offset: 0 })
    }

    /// Hands over all whole lines that were written since the last call. What is no line of ours is passed over.
    pub fn read(&mut self, each: &mut dyn FnMut(Line)) -> io::Result<()> {
        loop {
            let next = numbers(&self.dir)?.into_iter().find(|number| self.number < *number);
            self.read_file(each)?;
            match next {
                // It was begun when the one before was finished.
                Some(next) => (self.number, self.offset) = (next, 0),
                None => return Ok(()),
            }
        }
    }

    fn read_file(&mut self, each: &mut dyn FnMut(Line)) -> io::Result<()> {
        let mut file = match File::open(path_of(&self.dir, self.number)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = lines.by_ref().read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok(()); // What is not whole yet is read the next time.
            }
            self.offset = self.offset.saturating_add(length as u64);
            if let Ok(line) = serde_json::from_slice(&line) {
                each(line);
            }
        }
    }
}

/// The line of a request.
pub fn find(dir: &Path, request_id: &str) -> io::Result<Option<Entry>> {
    let mut found = None;
    Reader::from_start(dir)?.read(&mut |line| match line {
        Line::Entry(entry) if entry.request_id.eq_ignore_ascii_case(request_id) => {
            found = Some(*entry);
        }
        Line::Entry(_) | Line::Lost { .. } => {}
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::entry::tests::entry;
    use super::*;

    #[test]
    fn a_log_is_read_on_from_where_one_was_and_over_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |number: u64, text: &str| {
            let mut options = std::fs::OpenOptions::new();
            let path = path_of(dir.path(), number);
            let mut file = options.append(true).create(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let line = |number| serde_json::to_string(&entry(number)).unwrap();
        let mut reader = Reader::from_start(dir.path()).unwrap();
        let mut read = || {
            let mut seen = Vec::new();
            reader
                .read(&mut |line| match line {
                    Line::Entry(entry) => seen.extend(entry.resources),
                    Line::Lost { lost, .. } => seen.push(lost.to_string()),
                })
                .unwrap();
            seen
        };
        assert!(read().is_empty());
        let (first, second) = (line(1), line(2));
        write(1, &format!("{first}\nnonsense\n{}", &second[..10]));
        assert_eq!(read(), ["arn:1"]);
        write(1, &format!("{}\n", &second[10..]));
        write(2, "{\"time\":\"x\",\"lost\":7}\n");
        assert_eq!(read(), ["arn:2", "7"]);
        assert!(read().is_empty());
        let id = entry(1).request_id;
        assert_eq!(find(dir.path(), &id).unwrap(), Some(entry(2)), "the last of that id");
        assert_eq!(find(dir.path(), "none").unwrap(), None);
    }

    #[test]
    fn lines_are_chosen_by_principal_action_and_decision() {
        let line = entry(1);
        let filter = |principal: &str, action: &str, only_denied| Filter {
            principal: Some(principal.to_owned()).filter(|text| !text.is_empty()),
            action: Some(action.to_owned()).filter(|text| !text.is_empty()),
            only_denied,
        };
        for (wanted, filter) in [
            (true, filter("", "", false)),
            (true, filter("user/ann", "ecs:runtask", false)),
            (true, filter("AKIA", "RunTask", false)),
            (true, filter("", "ecs:*", false)),
            (false, filter("user/bob", "", false)),
            (false, filter("", "ecs:StopTask", false)),
            (false, filter("", "", true)),
        ] {
            assert_eq!(filter.wants(&line), wanted, "{filter:?}");
        }
    }
}
