//! One request: checked, decided, and answered.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use routing::{Action, Head, Headers, Zones, redirect, without_port};
use tokio::time::Instant;

use super::answers::{self, Failure};
use super::body::{AnswerBody, Exchange};
use super::connection::Client;
use super::{CookieKey, forward, headers};
use crate::limits::PATIENCE_PAUSE;
use crate::live::{LiveGroup, LiveListener, Snapshot};
use crate::log::Entry;

/// The headers of a request, as rules ask for them.
struct Seen<'a>(&'a HeaderMap);

impl Headers for Seen<'_> {
    fn any(&self, name: &str, wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(wanted)
    }
}

/// What one request is answered with, and by.
pub(super) struct Turn<'a> {
    pub(super) client: &'a Client,
    pub(super) snapshot: &'a Snapshot,
    pub(super) live: &'a LiveListener,
    pub(super) begun: Instant,
    pub(super) exchange: Arc<Exchange>,
    /// What the log will say; `None` where nothing is logged.
    pub(super) entry: Option<Box<Entry>>,
    /// Whether a target answered.
    pub(super) by_target: bool,
}

/// Answers a request. Never fails: what goes wrong is an answer.
pub(super) async fn handle(client: &Client, request: Request<Incoming>) -> Response<AnswerBody> {
    let mut snapshot = Arc::clone(&client.shared.snapshot.borrow());
    let mut request = request;
    let begun = Instant::now();
    if let Some(figures) =
        snapshot.listeners.get(&client.listener).and_then(|it| it.tallies.named())
    {
        let kind = request.headers().get(CONTENT_TYPE);
        figures.requested(kind.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc")));
    }
    loop {
        let Some(live) = snapshot.listeners.get(&client.listener) else {
            // The listener is gone; connections to it are not served on.
            let mut answer = answers::failure(Failure::Unavailable, client.is_h2);
            set_last(&mut answer, client);
            return answer;
        };
        let exchange = Exchange::new(live.balancer.attributes.request_timeout_s);
        let logs = live.balancer.attributes.access_logs.as_ref();
        let entry = logs.map(|logs| Entry::begin(client, live, logs, &request, &exchange));
        let mut turn =
            Turn { client, snapshot: &snapshot, live, begun, exchange, entry, by_target: false };
        let mut answer = match turn.answer(request).await {
            Ok(answer) => answer,
            Err(Unanswered::Failed(why)) => answers::failure(why, client.is_h2),
            Err(Unanswered::Unheld(unheld)) => {
                let mut newer = Arc::clone(&client.shared.snapshot.borrow());
                let is_patient = !turn.patience_left().is_zero();
                if Arc::ptr_eq(&newer, &snapshot) && is_patient {
                    tokio::time::sleep(PATIENCE_PAUSE).await;
                    newer = Arc::clone(&client.shared.snapshot.borrow());
                }
                if !Arc::ptr_eq(&newer, &snapshot) || is_patient {
                    if let Some(entry) = &mut turn.entry {
                        entry.is_moot = true;
                    }
                    // The group's targets went out of routing since it was chosen: by now another may be meant.
                    (snapshot, request) = (newer, *unheld);
                    continue;
                }
                answers::failure(Failure::Unavailable, client.is_h2)
            }
        };
        let apart = || live.tallies.apart(&live.balancer, client.came_to.as_ref(), None);
        if let Some(figures) = (!turn.by_target).then(apart).flatten() {
            figures.answered_itself(answer.status().as_u16());
        }
        headers::finish_answer(answer.headers_mut(), &live.listener.attributes);
        if client.is_last() || live.balancer.is_leaving(client.came_to.as_ref()) {
            set_last(&mut answer, client);
        }
        return match turn.entry.take() {
            Some(mut entry) => {
                entry.status = answer.status().as_u16();
                answer.map(|body| body.logged(entry))
            }
            None => answer,
        };
    }
}

/// Why a request has no answer yet.
pub(super) enum Unanswered {
    Failed(Failure),
    /// No target of its group could be taken hold of; nothing was done with it.
    Unheld(Box<Request<Incoming>>),
}

impl From<Failure> for Unanswered {
    fn from(why: Failure) -> Self {
        Self::Failed(why)
    }
}

fn set_last(answer: &mut Response<AnswerBody>, client: &Client) {
    if !client.is_h2 && answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

impl Turn<'_> {
    /// What cookies are sealed with.
    pub(super) fn cookie_key(&self) -> &CookieKey {
        self.live.cookie_key.as_ref().unwrap_or(&self.client.shared.cookies)
    }

    /// What is in a cookie. The process's own key opens what it sealed before it was told of another.
    pub(super) fn opened<T>(&self, open: impl Fn(&CookieKey) -> Option<T>) -> Option<T> {
        let told = self.live.cookie_key.as_ref().and_then(&open);
        told.or_else(|| open(&self.client.shared.cookies))
    }

    /// Of which zones a group's targets may be asked.
    pub(super) fn zones(&self, group: &LiveGroup) -> Zones<'_> {
        group.zones(&self.live.balancer, self.client.came_to.as_ref())
    }

    /// How long it may still wait for a target that takes connections.
    pub(super) fn patience_left(&self) -> Duration {
        let patience = u64::from(self.live.balancer.attributes.patience_ms);
        Duration::from_millis(patience).saturating_sub(self.begun.elapsed())
    }

    async fn answer(
        &mut self,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Unanswered> {
        headers::check(&request, self.live.balancer.attributes.desync)?;
        let uri = request.uri();
        let head = Head {
            method: request.method().as_str(),
            host: without_port(headers::host(&request)),
            path: uri.path(),
            query: uri.query(),
            headers: &Seen(request.headers()),
            peer: self.client.peer.ip(),
        };
        let rule = self.live.rules.find(&head).ok_or(Failure::Unavailable)?;
        if let Some(entry) = &mut self.entry {
            entry.matched(&rule.rule);
        }
        match &rule.rule.action {
            Action::FixedResponse { status, content_type, body } => {
                let content_type = content_type.as_deref().unwrap_or("text/plain");
                Ok(answers::plain(*status, Some(content_type), body.clone().into()))
            }
            Action::Redirect { protocol, host, port, path, query, status } => {
                let template = redirect::Template { protocol, host, port, path, query };
                let parts = redirect::Parts {
                    protocol: if self.client.tls.is_some() { "https" } else { "http" },
                    host: head.host,
                    port: self.live.listener.port,
                    path: head.path,
                    query: head.query,
                };
                let location =
                    redirect::location(template, parts).map_err(|_| Failure::RedirectTooLong)?;
                let answer = answers::redirect(status.code(), &location)?;
                if let Some(entry) = &mut self.entry {
                    entry.redirect = location;
                }
                Ok(answer)
            }
            Action::Forward { groups, sticky_s } => {
                forward::forward(self, rule, groups, *sticky_s, request).await
            }
        }
    }
}
