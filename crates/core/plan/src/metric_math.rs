//! Metric math: what is computed from metrics, as texts such as `IF(m1 > 100, 100 * m2 / m1, 0)`.
//!
//! Series are aligned: all values of a computation are of the same periods. Where an operation has two series, a hole in one
//! of them counts as 0, and a division by zero is a hole. Functions that are not here are refused by their names.
//!
//! **Invariant:** a computation makes no more values than its caller allows, those in between included: expressions that name
//! each other grow by powers, in time and in memory.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use model::alarm::{Watched, WatchedMetric, WatchedQuery};

/// How deep expressions nest.
const DEPTH_MAX: usize = 32;
/// Values that one request's expressions make at most, those in between included.
pub const POINTS_MAX: usize = 5_000_000;
/// Those that one look at an alarm makes.
pub const ALARM_POINTS_MAX: usize = 200_000;

/// Why a text is no expression that can be computed here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotComputed {
    #[error("Error in expression '{text}' [Invalid syntax at position {at}]")]
    Syntax { text: String, at: usize },
    #[error("The function {0} is not available in this region")]
    Function(String),
    #[error("Error in expression: it refers to '{0}', which is no id of the request")]
    NoSuchId(String),
    #[error("Error in expression: {0}")]
    Kind(&'static str),
    #[error("Error in expression: it refers to itself, or is nested too deeply")]
    Depth,
    #[error(
        "Error in expression: it takes more values to compute than this region computes at once: ask for fewer periods, or \
         for a simpler expression"
    )]
    TooMuch,
    #[error("Error in expression: it comes to a number, where it must come to a time series")]
    Number,
    #[error(
        "The value {0} for parameter Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$"
    )]
    NoId(String),
    #[error("The values for parameter Id are not unique: {0} is given more than once")]
    Twice(String),
    #[error("Exactly one element of the Metrics list should return data")]
    NotOne,
    #[error("At least one element of the Metrics list must be a metric")]
    NoMetric,
    #[error("Metrics that an expression is computed from must have the same period in this region")]
    Periods,
    #[error("An expression that is watched must come to exactly one time series")]
    NotOneSeries,
    #[error("{why} (query {id})")]
    Query { id: String, why: Box<NotComputed> },
}

/// Values of periods that follow each other.
pub type Series = Vec<Option<f64>>;

/// What an expression may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar(f64),
    Series(Series),
    Many(Vec<Series>),
}

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    Number(f64),
    Id(String),
    List(Vec<Expression>),
    Negative(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    Call(Function, Vec<Expression>),
    /// `METRICS()`, or those whose id has a text in it.
    Metrics(Option<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    Less,
    Greater,
    And,
    Or,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Abs,
    Ceil,
    Floor,
    If,
    Fill,
    Sum,
    Avg,
    Min,
    Max,
}

impl Function {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "ABS" => Self::Abs,
            "CEIL" => Self::Ceil,
            "FLOOR" => Self::Floor,
            "IF" => Self::If,
            "FILL" => Self::Fill,
            "SUM" => Self::Sum,
            "AVG" => Self::Avg,
            "MIN" => Self::Min,
            "MAX" => Self::Max,
            _ => return None,
        })
    }
}

impl Operator {
    /// The operators of each rank, the loosest first.
    const RANKS: [&'static [(&'static str, Self)]; 5] = [
        &[("||", Self::Or), ("OR", Self::Or)],
        &[("&&", Self::And), ("AND", Self::And)],
        &[
            ("==", Self::Equal),
            ("!=", Self::NotEqual),
            ("<=", Self::LessOrEqual),
            (">=", Self::GreaterOrEqual),
            ("<", Self::Less),
            (">", Self::Greater),
        ],
        &[("+", Self::Add), ("-", Self::Subtract)],
        &[("*", Self::Multiply), ("/", Self::Divide)],
    ];

    fn of(self, one: f64, other: f64) -> Option<f64> {
        let truth = |is_so: bool| Some(if is_so { 1.0 } else { 0.0 });
        let found = match self {
            Self::Add => Some(one + other),
            Self::Subtract => Some(one - other),
            Self::Multiply => Some(one * other),
            Self::Divide => (other != 0.0).then(|| one / other),
            Self::Power => Some(one.powf(other)),
            Self::Equal => truth(one == other),
            Self::NotEqual => truth(one != other),
            Self::LessOrEqual => truth(one <= other),
            Self::GreaterOrEqual => truth(one >= other),
            Self::Less => truth(one < other),
            Self::Greater => truth(one > other),
            Self::And => truth(one != 0.0 && other != 0.0),
            Self::Or => truth(one != 0.0 || other != 0.0),
        };
        found.filter(|value| value.is_finite())
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// Reads an expression.
pub fn parse(text: &str) -> Result<Expression, NotComputed> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let read = parser.binary(0)?;
    parser.space();
    if parser.at < text.len() { Err(parser.wrong()) } else { Ok(read) }
}

impl<'a> Parser<'a> {
    fn wrong(&self) -> NotComputed {
        NotComputed::Syntax { text: self.text.to_owned(), at: self.at }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take(&mut self, word: &str) -> bool {
        self.space();
        let is_there = self.rest().starts_with(word);
        let is_word = word.bytes().all(|byte| byte.is_ascii_alphabetic());
        let next = self.rest().as_bytes().get(word.len());
        let goes_on = is_word && next.is_some_and(|it| it.is_ascii_alphanumeric() || *it == b'_');
        if is_there && !goes_on {
            self.at += word.len();
        }
        is_there && !goes_on
    }

    fn expect(&mut self, word: &str) -> Result<(), NotComputed> {
        if self.take(word) { Ok(()) } else { Err(self.wrong()) }
    }

    fn binary(&mut self, rank: usize) -> Result<Expression, NotComputed> {
        let Some(operators) = Operator::RANKS.get(rank) else { return self.power() };
        let mut left = self.binary(rank + 1)?;
        while let Some((_, operator)) = operators.iter().find(|(word, _)| self.take(word)) {
            let right = self.binary(rank + 1)?;
            left = Expression::Binary(*operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn power(&mut self) -> Result<Expression, NotComputed> {
        self.depth += 1;
        if DEPTH_MAX < self.depth {
            return Err(NotComputed::Depth);
        }
        let negative = self.take("-");
        let base = if negative { self.power()? } else { self.atom()? };
        let read = if !negative && self.take("^") {
            let exponent = self.power()?;
            Expression::Binary(Operator::Power, Box::new(base), Box::new(exponent))
        } else if negative {
            Expression::Negative(Box::new(base))
        } else {
            base
        };
        self.depth -= 1;
        Ok(read)
    }

    fn atom(&mut self) -> Result<Expression, NotComputed> {
        self.space();
        if self.take("(") {
            let inner = self.binary(0)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.take("[") {
            return Ok(Expression::List(self.arguments("]")?));
        }
        let rest = self.rest();
        let word_end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
        let word = &rest[..word_end.unwrap_or(rest.len())];
        let first = word.chars().next().ok_or_else(|| self.wrong())?;
        if first.is_ascii_digit() || first == '.' {
            let number: f64 = word.parse().map_err(|_| self.wrong())?;
            self.at += word.len();
            return Ok(Expression::Number(number));
        }
        self.at += word.len();
        if first.is_ascii_lowercase() {
            return Ok(Expression::Id(word.to_owned()));
        }
        if matches!(word, "REPEAT" | "LINEAR") {
            return Ok(Expression::Id(word.to_owned()));
        }
        self.expect("(")?;
        if word == "METRICS" {
            return self.metrics();
        }
        let function = Function::parse(word);
        let function = function.ok_or_else(|| NotComputed::Function(word.to_owned()))?;
        Ok(Expression::Call(function, self.arguments(")")?))
    }

    fn metrics(&mut self) -> Result<Expression, NotComputed> {
        if self.take(")") {
            return Ok(Expression::Metrics(None));
        }
        self.space();
        let quote = self.rest().chars().next().filter(|c| matches!(c, '"' | '\''));
        let quote = quote.ok_or_else(|| self.wrong())?;
        let (text, _) = self.rest()[1..].split_once(quote).ok_or_else(|| self.wrong())?;
        self.at += text.len() + 2;
        self.expect(")")?;
        Ok(Expression::Metrics(Some(text.to_owned())))
    }

    fn arguments(&mut self, end: &str) -> Result<Vec<Expression>, NotComputed> {
        let mut all = vec![self.binary(0)?];
        while self.take(",") {
            all.push(self.binary(0)?);
        }
        self.expect(end)?;
        Ok(all)
    }
}

/// That each of some queries can be named by the others.
pub fn check_ids(queries: &[WatchedQuery]) -> Result<(), NotComputed> {
    let mut known = BTreeSet::new();
    for WatchedQuery { id, .. } in queries {
        let is_id = id.starts_with(|c: char| c.is_ascii_lowercase())
            && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_id {
            return Err(NotComputed::NoId(id.clone()));
        }
        if !known.insert(id) {
            return Err(NotComputed::Twice(id.clone()));
        }
    }
    Ok(())
}

/// The period of all metrics that are computed with.
pub fn common_period(queries: &[WatchedQuery]) -> Result<u32, NotComputed> {
    let mut periods = queries.iter().filter_map(|query| match &query.what {
        Watched::Metric(metric) => Some(metric.period_s),
        Watched::Expression(_) => None,
    });
    let first = periods.next().unwrap_or(60);
    if periods.all(|other| other == first) { Ok(first) } else { Err(NotComputed::Periods) }
}

/// That one series comes of queries, whichever of them it is, at each look at so many periods: found out by doing it.
pub fn check_watched(queries: &[WatchedQuery], periods: u32) -> Result<(), NotComputed> {
    check_ids(queries)?;
    if queries.iter().filter(|query| query.is_returned).count() != 1 {
        return Err(NotComputed::NotOne);
    }
    if !queries.iter().any(|query| matches!(query.what, Watched::Metric(_))) {
        return Err(NotComputed::NoMetric);
    }
    common_period(queries)?;
    let count = usize::try_from(periods).unwrap_or(usize::MAX);
    let computed = compute(queries, count, ALARM_POINTS_MAX, |_| vec![Some(1.0); count])?;
    match computed.values().all(|all| all.len() == 1) {
        true => Ok(()),
        false => Err(NotComputed::NotOneSeries),
    }
}

/// What each expression that is returned comes to, by its id: one series, or several. `read` has the values of a metric.
pub fn compute(
    queries: &[WatchedQuery],
    periods: usize,
    points_max: usize,
    read: impl Fn(&WatchedMetric) -> Series,
) -> Result<BTreeMap<String, Vec<Series>>, NotComputed> {
    let (mut metrics, mut expressions) = (BTreeMap::new(), BTreeMap::new());
    for query in queries {
        match &query.what {
            Watched::Metric(metric) => {
                metrics.insert(query.id.clone(), read(metric));
            }
            Watched::Expression(text) => {
                let parsed = parse(text).map_err(|why| of_query(&query.id, why))?;
                expressions.insert(query.id.clone(), parsed);
            }
        }
    }
    let scope = Scope::new(&metrics, &expressions, periods, points_max);
    // What is not returned may be a number, by which others are computed.
    let is_returned = |id: &String| queries.iter().any(|it| it.id == *id && it.is_returned);
    let value = |(id, expression): (&String, &Expression)| match scope.value(expression) {
        Ok(Value::Series(series)) => Ok((id.clone(), vec![series])),
        Ok(Value::Many(all)) => Ok((id.clone(), all)),
        Ok(Value::Scalar(_)) => Err(of_query(id, NotComputed::Number)),
        Err(why) => Err(of_query(id, why)),
    };
    expressions.iter().filter(|(id, _)| is_returned(id)).map(value).collect()
}

fn of_query(id: &str, why: NotComputed) -> NotComputed {
    NotComputed::Query { id: id.to_owned(), why: Box::new(why) }
}

/// What ids stand for: the metrics of a request by their ids, and other expressions of it.
#[derive(Debug)]
pub struct Scope<'a> {
    metrics: &'a BTreeMap<String, Series>,
    expressions: &'a BTreeMap<String, Expression>,
    /// Periods of each series.
    periods: usize,
    /// Values that may yet be made.
    points_left: Cell<usize>,
}

/// Values of what was made.
fn points(value: &Value) -> usize {
    match value {
        Value::Scalar(_) => 1,
        Value::Series(series) => series.len().max(1),
        Value::Many(all) => all.iter().map(|series| series.len().max(1)).sum::<usize>().max(1),
    }
}

impl<'a> Scope<'a> {
    /// All that is computed in it makes `points_max` values together at most.
    pub fn new(
        metrics: &'a BTreeMap<String, Series>,
        expressions: &'a BTreeMap<String, Expression>,
        periods: usize,
        points_max: usize,
    ) -> Self {
        Self { metrics, expressions, periods, points_left: Cell::new(points_max) }
    }

    /// What an expression comes to.
    pub fn value(&self, expression: &Expression) -> Result<Value, NotComputed> {
        self.at(expression, 0)
    }

    /// Takes what was made from what may yet be made.
    fn counted(&self, value: Value) -> Result<Value, NotComputed> {
        let left = self.points_left.get().checked_sub(points(&value));
        self.points_left.set(left.ok_or(NotComputed::TooMuch)?);
        Ok(value)
    }

    fn at(&self, expression: &Expression, depth: usize) -> Result<Value, NotComputed> {
        if DEPTH_MAX * 2 < depth {
            return Err(NotComputed::Depth);
        }
        self.counted(self.made(expression, depth)?)
    }

    fn made(&self, expression: &Expression, depth: usize) -> Result<Value, NotComputed> {
        let inner = |each: &Expression| self.at(each, depth + 1);
        match expression {
            Expression::Number(number) => Ok(Value::Scalar(*number)),
            Expression::Id(id) => match (self.metrics.get(id), self.expressions.get(id)) {
                (Some(series), _) => Ok(Value::Series(series.clone())),
                (None, Some(other)) => inner(other),
                (None, None) => Err(NotComputed::NoSuchId(id.clone())),
            },
            Expression::List(items) => {
                let mut all = Vec::new();
                for item in items {
                    match inner(item)? {
                        Value::Series(series) => all.push(series),
                        Value::Many(more) => all.extend(more),
                        Value::Scalar(_) => {
                            return Err(NotComputed::Kind("a list is made of time series"));
                        }
                    }
                }
                Ok(Value::Many(all))
            }
            Expression::Metrics(part) => {
                let is_meant = |id: &String| part.as_ref().is_none_or(|part| id.contains(part));
                let meant = self.metrics.iter().filter(|(id, _)| is_meant(id));
                let points: usize = meant.clone().map(|(_, series)| series.len().max(1)).sum();
                if self.points_left.get() < points {
                    return Err(NotComputed::TooMuch);
                }
                Ok(Value::Many(meant.map(|(_, series)| series.clone()).collect()))
            }
            Expression::Negative(of) => Ok(each(inner(of)?, |value| -value)),
            Expression::Binary(..) => {
                // What leans to the left is as deep as it is long, and so it is put together from its first operand on.
                let (mut first, mut rest) = (expression, Vec::new());
                while let Expression::Binary(operator, one, other) = first {
                    rest.push((*operator, other));
                    first = one;
                }
                let mut value = inner(first)?;
                while let Some((operator, other)) = rest.pop() {
                    value = binary(operator, value, inner(other)?)?;
                    if !rest.is_empty() {
                        value = self.counted(value)?;
                    }
                }
                Ok(value)
            }
            Expression::Call(function, arguments) => self.call(*function, arguments, depth),
        }
    }

    fn call(
        &self,
        function: Function,
        arguments: &[Expression],
        depth: usize,
    ) -> Result<Value, NotComputed> {
        let inner = |each: &Expression| self.at(each, depth + 1);
        match (function, arguments) {
            (Function::Abs, [of]) => Ok(each(inner(of)?, f64::abs)),
            (Function::Ceil, [of]) => Ok(each(inner(of)?, f64::ceil)),
            (Function::Floor, [of]) => Ok(each(inner(of)?, f64::floor)),
            (Function::If, [condition, then]) => self.choose(inner(condition)?, inner(then)?, None),
            (Function::If, [condition, then, other]) => {
                self.choose(inner(condition)?, inner(then)?, Some(inner(other)?))
            }
            (Function::Fill, [of, by]) => self.fill(inner(of)?, by, depth),
            (Function::Sum | Function::Avg | Function::Min | Function::Max, [of]) => {
                Ok(aggregate(function, inner(of)?))
            }
            (
                Function::Abs
                | Function::Ceil
                | Function::Floor
                | Function::If
                | Function::Fill
                | Function::Sum
                | Function::Avg
                | Function::Min
                | Function::Max,
                _,
            ) => Err(NotComputed::Kind("a function has another number of arguments")),
        }
    }

    fn series(&self, value: Value) -> Result<Series, NotComputed> {
        match value {
            Value::Scalar(number) => Ok(vec![Some(number); self.periods]),
            Value::Series(series) => Ok(series),
            Value::Many(_) => Err(NotComputed::Kind("one time series is wanted, and not a list")),
        }
    }

    fn choose(
        &self,
        condition: Value,
        then: Value,
        other: Option<Value>,
    ) -> Result<Value, NotComputed> {
        let condition = self.series(condition)?;
        let then = self.series(then)?;
        let other = other.map(|other| self.series(other)).transpose()?;
        let pick = |(at, holds): (usize, &Option<f64>)| match holds {
            Some(value) if *value != 0.0 => then.get(at).copied().flatten(),
            Some(_) => other.as_ref().and_then(|other| other.get(at).copied().flatten()),
            None => None,
        };
        Ok(Value::Series(condition.iter().enumerate().map(pick).collect()))
    }

    fn fill(&self, of: Value, by: &Expression, depth: usize) -> Result<Value, NotComputed> {
        let word = if let Expression::Id(word) = by { word.as_str() } else { "" };
        let filled = |series: Series| -> Result<Series, NotComputed> {
            if word == "REPEAT" {
                return Ok(repeated(&series));
            }
            if word == "LINEAR" {
                return Err(NotComputed::Function("FILL with LINEAR".to_owned()));
            }
            let by = self.series(self.at(by, depth + 1)?)?;
            let pairs = series.iter().enumerate();
            Ok(pairs.map(|(at, it)| it.or(by.get(at).copied().flatten())).collect())
        };
        match of {
            Value::Many(all) => {
                all.into_iter().map(filled).collect::<Result<_, _>>().map(Value::Many)
            }
            Value::Series(series) => filled(series).map(Value::Series),
            Value::Scalar(_) => Err(NotComputed::Kind("FILL fills time series")),
        }
    }
}

fn repeated(series: &Series) -> Series {
    let mut last = None;
    series
        .iter()
        .map(|value| {
            last = value.or(last);
            last
        })
        .collect()
}

fn each(value: Value, what: impl Fn(f64) -> f64) -> Value {
    let series = |all: Series| -> Series { all.into_iter().map(|it| it.map(&what)).collect() };
    match value {
        Value::Scalar(number) => Value::Scalar(what(number)),
        Value::Series(all) => Value::Series(series(all)),
        Value::Many(many) => Value::Many(many.into_iter().map(series).collect()),
    }
}

fn binary(operator: Operator, one: Value, other: Value) -> Result<Value, NotComputed> {
    let by = |left: Option<f64>, right: Option<f64>| operator.of(left?, right?);
    let of_two = |left: &Series, right: &Series| -> Series {
        let length = left.len().max(right.len());
        let get = |series: &Series, at: usize| series.get(at).copied().flatten();
        let pair = |at| match (get(left, at), get(right, at)) {
            (None, None) => None,
            (one, other) => by(one.or(Some(0.0)), other.or(Some(0.0))),
        };
        (0..length).map(pair).collect()
    };
    Ok(match (one, other) {
        (Value::Scalar(left), Value::Scalar(right)) => match operator.of(left, right) {
            Some(number) => Value::Scalar(number),
            None => return Err(NotComputed::Kind("a division by zero")),
        },
        (Value::Series(left), Value::Scalar(right)) => {
            Value::Series(left.into_iter().map(|it| by(it, Some(right))).collect())
        }
        (Value::Scalar(left), Value::Series(right)) => {
            Value::Series(right.into_iter().map(|it| by(Some(left), it)).collect())
        }
        (Value::Series(left), Value::Series(right)) => Value::Series(of_two(&left, &right)),
        (Value::Many(all), Value::Scalar(right)) => {
            let of_one =
                |series: Series| series.into_iter().map(|it| by(it, Some(right))).collect();
            Value::Many(all.into_iter().map(of_one).collect())
        }
        (Value::Many(all), Value::Series(right)) => {
            Value::Many(all.iter().map(|left| of_two(left, &right)).collect())
        }
        (Value::Series(left), Value::Many(all)) => {
            Value::Many(all.iter().map(|right| of_two(&left, right)).collect())
        }
        (Value::Scalar(left), Value::Many(all)) => {
            let of_one = |series: Series| series.into_iter().map(|it| by(Some(left), it)).collect();
            Value::Many(all.into_iter().map(of_one).collect())
        }
        (Value::Many(_), Value::Many(_)) => {
            return Err(NotComputed::Kind("two lists of time series cannot be put together"));
        }
    })
}

fn aggregate(function: Function, of: Value) -> Value {
    let over = |values: Vec<f64>| -> Option<f64> {
        let count = values.len();
        let sum: f64 = values.iter().sum();
        let found = match function {
            Function::Sum => sum,
            Function::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Function::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Function::Avg
            | Function::Abs
            | Function::Ceil
            | Function::Floor
            | Function::If
            | Function::Fill => sum / f64::from(u32::try_from(count).unwrap_or(u32::MAX)),
        };
        (0 < count).then_some(found)
    };
    match of {
        Value::Scalar(number) => Value::Scalar(number),
        Value::Series(series) => {
            Value::Scalar(over(series.into_iter().flatten().collect()).unwrap_or(0.0))
        }
        Value::Many(all) => {
            let periods = all.iter().map(Vec::len).max().unwrap_or(0);
            let at = |at: usize| -> Option<f64> {
                over(all.iter().filter_map(|series| series.get(at).copied().flatten()).collect())
            };
            Value::Series((0..periods).map(at).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<Value, NotComputed> {
        let series = |text: &str| -> Series { text.split(' ').map(|it| it.parse().ok()).collect() };
        let metrics: BTreeMap<String, Series> = [
            ("c", series("1 1 0 0 -")),
            ("a", series("30 - 0 0 30")),
            ("b", series("0 0 20 - 20")),
        ]
        .map(|(id, it)| (id.to_owned(), it))
        .into();
        let expressions = [("e1".to_owned(), parse("e1 + 1")?), ("e2".to_owned(), parse("a * 2")?)];
        let expressions = expressions.into();
        Scope::new(&metrics, &expressions, 5, POINTS_MAX).value(&parse(text)?)
    }

    fn shown(text: &str) -> String {
        let series = |all: &Series| {
            let words = all.iter().map(|it| it.map_or("-".to_owned(), |it| it.to_string()));
            words.collect::<Vec<_>>().join(" ")
        };
        match value(text) {
            Ok(Value::Scalar(number)) => number.to_string(),
            Ok(Value::Series(all)) => series(&all),
            Ok(Value::Many(many)) => many.iter().map(series).collect::<Vec<_>>().join(" | "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn expressions_come_to_what_the_documents_examples_say() {
        for (text, expected) in [
            ("IF(c, a, b)", "30 - 20 - -"),
            ("IF(c, 5, b)", "5 5 20 - -"),
            ("IF(c, a, 5)", "30 - 5 5 -"),
            ("IF(c, a)", "30 - - - -"),
            ("a + b", "30 0 20 0 50"),
            ("a / b", "- - 0 - 1.5"),
            ("100 * a / FILL(b, 1)", "- - 0 0 150"),
            ("FILL(a, REPEAT)", "30 30 0 0 30"),
            ("SUM(METRICS())", "31 1 20 0 50"),
            ("MAX([a, b])", "30 0 20 0 30"),
            ("MIN(a) + 2 ^ 3 * -1", "-8"),
            ("AVG(b)", "10"),
            ("a >= 30 && b > 0", "0 0 0 0 1"),
            ("METRICS('a') * 2", "60 - 0 0 60"),
            ("e2 - a", "30 - 0 0 30"),
            ("CEIL(a / 7)", "5 - 0 0 5"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_says_why() {
        for (text, why) in [
            ("a +", "[Invalid syntax at position 3]"),
            ("a b", "[Invalid syntax at position 2]"),
            ("SEARCH('{A}', 'Sum')", "The function SEARCH is not available in this region"),
            ("x", "it refers to 'x'"),
            ("e1", "refers to itself"),
            ("METRICS() + METRICS()", "two lists"),
            ("IF(a)", "another number of arguments"),
        ] {
            assert!(shown(text).contains(why), "{text}: {}", shown(text));
        }
        // A long one is not a deep one.
        assert_eq!(shown(&["a"; 1_000].join("+")), shown("a * 1000"));
        assert_eq!(shown(&format!("a{}", "-1".repeat(1_000))), shown("a - 1000"));
        let deep = format!("{}1{}", "(".repeat(200), ")".repeat(200));
        assert_eq!(shown(&deep), NotComputed::Depth.to_string());
    }

    /// What queries of one metric `m` and these expressions come to, by their order `e0`, `e1`, …
    fn computed(texts: &[&str], points_max: usize) -> Result<usize, NotComputed> {
        let query = |id: String, what| WatchedQuery { id, label: None, is_returned: true, what };
        let metric = Watched::Metric(WatchedMetric {
            namespace: "App".to_owned(),
            name: "load".to_owned(),
            dimensions: BTreeMap::new(),
            statistic: model::alarm::Statistic::Sum,
            period_s: 60,
            unit: None,
        });
        let mut queries = vec![query("m".to_owned(), metric)];
        for (position, text) in texts.iter().enumerate() {
            let what = Watched::Expression((*text).to_owned());
            queries.push(query(format!("e{position}"), what));
        }
        let made = compute(&queries, 3, points_max, |_| vec![Some(1.0); 3])?;
        Ok(made.values().map(Vec::len).sum())
    }

    #[test]
    fn what_grows_by_powers_is_refused_before_it_is_made() {
        let too_much = |made: Result<usize, NotComputed>| {
            let NotComputed::Query { why, .. } = made.unwrap_err() else {
                panic!("a query is to blame")
            };
            assert_eq!(*why, NotComputed::TooMuch);
        };
        // Each doubles what the one before takes.
        let chain: Vec<String> = (0..30).map(|at| format!("e{at} + e{at}")).collect();
        let chain: Vec<&str> = ["m + m"].into_iter().chain(chain.iter().map(|it| &**it)).collect();
        too_much(computed(&chain, POINTS_MAX));
        assert_eq!(computed(&chain[..5], POINTS_MAX), Ok(5));
        // Lists of lists.
        let list = |of: &str| format!("[{}]", vec![of; 600].join(","));
        let lists = [list("m"), list("e0"), list("e1")];
        too_much(computed(&[&lists[0], &lists[1], &lists[2]], POINTS_MAX));
        assert_eq!(computed(&[&lists[0]], POINTS_MAX), Ok(600));
        // What all of them make together counts.
        let all = vec!["METRICS()"; 10];
        too_much(computed(&all, 29));
        assert_eq!(computed(&all, 30), Ok(10));
    }

    #[test]
    fn what_is_watched_is_one_series_of_queries_that_can_be_named() {
        let metric = |id: &str, period_s: u32, is_returned: bool| {
            let what = Watched::Metric(WatchedMetric {
                namespace: "App".to_owned(),
                name: "load".to_owned(),
                dimensions: BTreeMap::new(),
                statistic: model::alarm::Statistic::Sum,
                period_s,
                unit: None,
            });
            WatchedQuery { id: id.to_owned(), label: None, is_returned, what }
        };
        let computed = |id: &str, text: &str| WatchedQuery {
            id: id.to_owned(),
            label: None,
            is_returned: true,
            what: Watched::Expression(text.to_owned()),
        };
        let check = |queries: &[WatchedQuery]| check_watched(queries, 5);
        check(&[metric("a", 60, true)]).unwrap();
        check(&[metric("a", 60, false), metric("b", 60, false), computed("e", "a / b")]).unwrap();
        let refused = |queries: &[WatchedQuery]| check(queries).unwrap_err().to_string();
        for (queries, why) in [
            (vec![metric("A", 60, true)], "The value A for parameter Id"),
            (vec![metric("", 60, true)], "The value  for parameter Id"),
            (vec![metric("a", 60, false), metric("a", 60, true)], "a is given more than once"),
            (vec![metric("a", 60, false), computed("a", "1 + a")], "a is given more than once"),
            (vec![metric("a", 60, false)], "Exactly one element"),
            (vec![metric("a", 60, true), computed("e", "a")], "Exactly one element"),
            (vec![computed("e", "IF(1, 1)")], "must be a metric"),
            (vec![metric("a", 60, false), metric("b", 300, true)], "the same period"),
            (vec![metric("a", 60, false), computed("e", "[a, a]")], "exactly one time series"),
            (vec![metric("a", 60, false), computed("e", "SUM(x)")], "'x'"),
        ] {
            assert!(refused(&queries).contains(why), "{why}: {}", refused(&queries));
        }
        // A broken expression is one also where a metric is what is returned.
        let mut broken = computed("e", "a +");
        broken.is_returned = false;
        assert!(check(&[metric("a", 60, true), broken]).is_err());
    }
}
