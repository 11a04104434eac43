//! The tables that generated code is made of: what a protocol must know of a shape.
//!
//! Everything is `'static` and constant; shapes that contain themselves refer to themselves.

/// How a time is written where the protocol does not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampFormat {
    /// Seconds since the epoch, with a fraction if there is one.
    Seconds,
    /// `2015-01-25T08:00:00Z`
    Iso8601,
    /// `Sun, 25 Jan 2015 08:00:00 GMT`
    Rfc822,
}

/// What a value is.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Structure(&'static Structure),
    List(&'static List),
    Map(&'static Map),
    Text(&'static Text),
    Number(&'static Number),
    Boolean,
    Timestamp(Option<TimestampFormat>),
    Blob(&'static Limits),
    Document,
}

#[derive(Debug)]
pub struct Structure {
    pub name: &'static str,
    pub members: &'static [Member],
    /// The index of the member that is the whole body (restJson1).
    pub payload: Option<usize>,
    pub sensitive: bool,
    /// The shape's own namespace in XML.
    pub namespace: Option<Namespace>,
}

#[derive(Clone, Copy, Debug)]
pub struct Namespace {
    pub prefix: Option<&'static str>,
    pub uri: &'static str,
}

/// Where a member travels (restJson1; all others only have bodies).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    Body,
    Header,
    /// All headers with the prefix that is the member's wire name.
    Headers,
    Uri,
    QueryString,
    StatusCode,
}

#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The model's name.
    pub name: &'static str,
    /// The name on the wire; the model's name unless it gives another.
    pub wire: &'static str,
    /// The name in ec2Query's input, where it has a rule of its own.
    pub ec2: Option<&'static str>,
    pub shape: Shape,
    pub location: Location,
    pub required: bool,
    pub sensitive: bool,
    pub xml_attribute: bool,
    /// A JSON document inside a header, base64.
    pub json_value: bool,
    /// The body is handed over as it is (restJson1 blobs and strings as payload).
    pub streaming: bool,
    /// Fill with a fresh UUID if absent.
    pub idempotency_token: bool,
    pub namespace: Option<Namespace>,
    /// For lists in XML: whether the member itself is repeated, if the member says so.
    pub flattened: bool,
}

impl Member {
    pub const fn new(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            wire: name,
            ec2: None,
            shape,
            location: Location::Body,
            required: false,
            sensitive: false,
            xml_attribute: false,
            json_value: false,
            streaming: false,
            idempotency_token: false,
            namespace: None,
            flattened: false,
        }
    }

    #[must_use]
    pub const fn wire(mut self, wire: &'static str) -> Self {
        self.wire = wire;
        self
    }

    #[must_use]
    pub const fn ec2(mut self, name: &'static str) -> Self {
        self.ec2 = Some(name);
        self
    }

    #[must_use]
    pub const fn at(mut self, location: Location) -> Self {
        self.location = location;
        self
    }

    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    #[must_use]
    pub const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    #[must_use]
    pub const fn idempotency_token(mut self) -> Self {
        self.idempotency_token = true;
        self
    }
}

#[derive(Debug)]
pub struct List {
    pub item: Member,
    pub flattened: bool,
    pub limits: Limits,
    pub sensitive: bool,
}

#[derive(Debug)]
pub struct Map {
    pub key: Member,
    pub value: Member,
    pub flattened: bool,
    pub limits: Limits,
    pub sensitive: bool,
}

/// How many items, entries, characters or bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub min: Option<u64>,
    pub max: Option<u64>,
}

impl Limits {
    pub const NONE: Self = Self { min: None, max: None };
}

#[derive(Debug)]
pub struct Text {
    pub limits: Limits,
    pub pattern: Option<Pattern>,
    /// The members of an enumeration; empty for any text.
    pub values: &'static [&'static str],
    pub sensitive: bool,
    /// A media type other than plain text, such as JSON inside a string.
    pub json_value: bool,
}

impl Text {
    pub const ANY: Self = Self {
        limits: Limits::NONE,
        pattern: None,
        values: &[],
        sensitive: false,
        json_value: false,
    };
}

/// A text must match all of it; compiled at first use.
#[derive(Debug)]
pub struct Pattern {
    /// As the model writes it, which is what error messages show.
    pub text: &'static str,
    pub compiled: std::sync::OnceLock<Option<regex::Regex>>,
}

impl Pattern {
    pub const fn new(text: &'static str) -> Self {
        Self { text, compiled: std::sync::OnceLock::new() }
    }

    /// Whether `value` matches from end to end. A pattern that our engine can't hold matches anything.
    pub fn matches(&self, value: &str) -> bool {
        self.regex().is_none_or(|regex| regex.is_match(value))
    }

    /// Whether our engine can hold it; a test asks this of all generated ones.
    pub fn is_enforced(&self) -> bool {
        self.regex().is_some()
    }

    fn regex(&self) -> Option<&regex::Regex> {
        let compile = || {
            // Java's classes are of ASCII, ours would be of Unicode.
            let ascii = self.text.replace("\\w", "[A-Za-z0-9_]").replace("\\d", "[0-9]");
            regex::Regex::new(&format!("\\A(?:{ascii})\\z")).ok()
        };
        self.compiled.get_or_init(compile).as_ref()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberKind {
    Integer,
    Long,
    Float,
    Double,
}

#[derive(Debug)]
pub struct Number {
    pub kind: NumberKind,
    pub min: Option<f64>,
    pub max: Option<f64>,
}

impl Number {
    pub const fn any(kind: NumberKind) -> Self {
        Self { kind, min: None, max: None }
    }
}

pub static TEXT: Text = Text::ANY;
pub static INTEGER: Number = Number::any(NumberKind::Integer);
pub static LONG: Number = Number::any(NumberKind::Long);
pub static FLOAT: Number = Number::any(NumberKind::Float);
pub static DOUBLE: Number = Number::any(NumberKind::Double);
pub static BLOB: Limits = Limits::NONE;

impl Structure {
    pub const fn new(name: &'static str, members: &'static [Member]) -> Self {
        Self { name, members, payload: None, sensitive: false, namespace: None }
    }

    #[must_use]
    pub const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// The member with this wire name. `after` is where to begin: clients mostly send members in order.
    pub fn find(&self, wire: &str, after: usize) -> Option<usize> {
        let count = self.members.len();
        (0..count)
            .map(|step| (after + step) % count)
            .find(|&index| self.members[index].wire == wire)
    }
}
