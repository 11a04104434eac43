//! A policy: a document that was checked and compiled, with the text it was made from.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::context::{KeyMask, is_about_resource};
use crate::element;
use crate::json::{self, Node, Outline};
use crate::limits::DOCUMENT_BYTES_MAX;
use crate::malformed::{Fault, Malformed, Syntax};
use crate::principal::Principal;
use crate::request::ServiceMask;
use crate::services::is_service;
use crate::statement::Statement;

/// What a document is for, which says what must and what must not be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyKind {
    /// Of users, groups and roles, managed or inline.
    Identity,
    /// The most that a user or role may be allowed.
    Boundary,
    /// The most that a session may be allowed.
    Session,
    /// Of a resource: names principals and resources.
    Resource,
    /// Of an image repository: names principals; what it is for goes without saying.
    Repository,
    /// Of a role: who may assume it.
    Trust,
}

impl PolicyKind {
    pub(crate) fn names_principals(self) -> bool {
        match self {
            Self::Identity | Self::Boundary | Self::Session => false,
            Self::Resource | Self::Repository | Self::Trust => true,
        }
    }

    pub(crate) fn names_resources(self) -> bool {
        match self {
            Self::Identity | Self::Boundary | Self::Session | Self::Resource => true,
            Self::Repository | Self::Trust => false,
        }
    }

    /// IAM's own documents take letters and digits in a Sid; services take more in theirs.
    pub(crate) fn has_plain_sids(self) -> bool {
        match self {
            Self::Identity | Self::Boundary | Self::Session | Self::Trust => true,
            Self::Resource | Self::Repository => false,
        }
    }
}

/// A policy. Cheap to share: keep it in an `Arc` beside the row that holds its document.
#[derive(Clone, Debug)]
pub struct Policy {
    kind: PolicyKind,
    text: Arc<str>,
    version: Option<Version>,
    id: Option<Box<str>>,
    statements: Vec<Statement>,
    /// Where each statement stands in the text.
    spans: Vec<Range<usize>>,
    mask: ServiceMask,
    /// Each statement's own mask, together so that passing over statements reads little memory.
    masks: Box<[ServiceMask]>,
    key_mask: KeyMask,
    asks_about_resource: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Of2008,
    Of2012,
}

impl Version {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Of2008 => "2008-10-17",
            Self::Of2012 => "2012-10-17",
        }
    }
}

impl Policy {
    /// Reads a document of a kind, or says in IAM's words why it is none.
    pub fn parse(text: &str, kind: PolicyKind) -> Result<Self, Malformed> {
        let whole = |fault: Fault| Malformed { fault, statement: None };
        let broken = |error: serde_json::Error| whole(Syntax::Json(error.to_string()).into());
        check_text(text).map_err(|syntax| whole(syntax.into()))?;
        let outline = Outline::read(text).map_err(broken)?;
        let (mut version, mut id, mut raw_statements) = (None, None, None);
        for (name, raw) in outline.members() {
            match name {
                "Version" => version = Some(read_version(raw).map_err(whole)?),
                "Id" => id = Some(read_text("Id", raw).map_err(|s| whole(s.into()))?),
                "Statement" => raw_statements = Some(json::elements(raw).map_err(broken)?),
                _ => return Err(whole(Syntax::UnknownElement(name.to_owned()).into())),
            }
        }
        let raw_statements = raw_statements.unwrap_or_default();
        if raw_statements.is_empty() {
            return Err(whole(Syntax::Missing("Statement").into()));
        }
        let mut statements = Vec::with_capacity(raw_statements.len());
        let mut spans = Vec::with_capacity(raw_statements.len());
        let mut sids = BTreeSet::new();
        for (index, raw) in raw_statements.into_iter().enumerate() {
            let here = |fault: Fault| Malformed { fault, statement: Some(index) };
            let node: Node = serde_json::from_str(raw.get())
                .map_err(|error| here(Syntax::Json(error.to_string()).into()))?;
            let has_variables = version == Some(Version::Of2012);
            let statement = element::statement(node, kind, has_variables).map_err(here)?;
            if let Some(sid) = statement.sid().filter(|sid| !sid.is_empty())
                && !sids.insert(sid.to_owned())
            {
                return Err(here(Fault::SidTwice(sid.to_owned())));
            }
            statements.push(statement);
            spans.push(json::span(text, raw.get()));
        }
        let masks: Box<[ServiceMask]> = statements.iter().map(|s| s.actions.mask()).collect();
        let mask = masks.iter().copied().fold(ServiceMask::default(), ServiceMask::or);
        let keys = || statements.iter().flat_map(Statement::keys);
        let (key_mask, asks_about_resource) = (KeyMask::of(keys()), keys().any(is_about_resource));
        Ok(Self {
            kind,
            text: text.into(),
            version,
            id,
            statements,
            spans,
            mask,
            masks,
            key_mask,
            asks_about_resource,
        })
    }

    pub fn kind(&self) -> PolicyKind {
        self.kind
    }

    /// What IAM asks of a new trust policy and not of one that a role has: that it does not let in whoever has an account
    /// at a provider of everybody's identities, and that the services that it names are some.
    ///
    /// # Errors
    ///
    /// The statement that does, or names another.
    pub fn check_subjects(&self) -> Result<(), Malformed> {
        for (index, statement) in self.statements.iter().enumerate() {
            let unknown = statement.principals().iter().find_map(|principal| match principal {
                Principal::Service(name) if !is_service(name) => Some(name.to_string()),
                _ => None,
            });
            if let Some(value) = unknown {
                let fault = Fault::InvalidPrincipal { kind: "SERVICE".to_owned(), value };
                return Err(Malformed { fault, statement: Some(index) });
            }
            if let Some(provider) = statement.lets_any_subject() {
                let fault = Fault::AnySubject(provider);
                return Err(Malformed { fault, statement: Some(index) });
            }
        }
        Ok(())
    }

    /// The document, byte for byte as it was given.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Line and column, both from 1, of where a statement begins and of where it ends.
    pub fn position(&self, statement: usize) -> Option<((usize, usize), (usize, usize))> {
        let span = self.spans.get(statement)?;
        Some((self.line_column(span.start)?, self.line_column(span.end)?))
    }

    fn line_column(&self, offset: usize) -> Option<(usize, usize)> {
        let before = self.text.get(..offset)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((line, column))
    }

    /// The condition keys that the policy asks for.
    pub fn context_keys(&self) -> BTreeSet<String> {
        self.statements.iter().flat_map(Statement::keys).map(str::to_owned).collect()
    }

    /// As [`Policy::context_keys`], as bits.
    pub fn key_mask(&self) -> KeyMask {
        self.key_mask
    }

    /// Whether it asks for a resource's tags or account: they need be looked up only then.
    pub fn asks_about_resource(&self) -> bool {
        self.asks_about_resource
    }

    pub(crate) fn version(&self) -> Option<Version> {
        self.version
    }

    /// The statements that may concern a service, with their places.
    pub(crate) fn concerning(
        &self,
        mask: ServiceMask,
    ) -> impl Iterator<Item = (usize, &Statement)> {
        let masks = if self.mask.meets(mask) { &*self.masks } else { &[] };
        let met = masks.iter().zip(&self.statements).enumerate();
        met.filter(move |(_, (own, _))| own.meets(mask)).map(|(index, (_, each))| (index, each))
    }
}

fn check_text(text: &str) -> Result<(), Syntax> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(Syntax::TooLong);
    }
    let is_odd = |c: char| !matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}');
    match text.chars().find(|c| is_odd(*c)) {
        Some(odd) => Err(Syntax::Character(u32::from(odd))),
        None => Ok(()),
    }
}

fn read_text(element: &'static str, raw: &RawValue) -> Result<Box<str>, Syntax> {
    let text: Result<String, _> = serde_json::from_str(raw.get());
    text.map(Into::into).map_err(|_| Syntax::WrongType { element, wanted: "a string" })
}

fn read_version(raw: &RawValue) -> Result<Version, Fault> {
    match &*read_text("Version", raw)? {
        "2012-10-17" => Ok(Version::Of2012),
        "2008-10-17" => Ok(Version::Of2008),
        other => Err(Fault::Version(other.to_owned())),
    }
}
