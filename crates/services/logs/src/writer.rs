//! What services of the region say to groups in their own name: each line asks the resource policies.

use ::logs::{GroupName, InputEvent, LogsError, StreamName};
use aws_wire::ApiError;
use control::ports::{BoxFuture, LogLine, LogWriter, NotLogged};

use crate::common::to_api;
use crate::{CloudWatchLogs, Writing};

impl LogWriter for CloudWatchLogs {
    fn write<'a>(&'a self, line: &'a LogLine<'a>) -> BoxFuture<'a, Result<(), NotLogged>> {
        Box::pin(write(self, line))
    }
}

async fn write(it: &CloudWatchLogs, line: &LogLine<'_>) -> Result<(), NotLogged> {
    let LogLine { service, source, account, stream, .. } = *line;
    let wrong =
        |why: String| NotLogged::Refused(ApiError::client("InvalidParameterException", why));
    let group: GroupName = line.group.parse().map_err(|why| wrong(format!("{why}")))?;
    let name: StreamName = stream.parse().map_err(|why| wrong(format!("{why}")))?;
    let refused = |why: LogsError| NotLogged::Refused(to_api(why));
    it.logs.group(account, &group).map_err(refused)?;
    let let_do = |action: &'static str| {
        let writing = Writing { service, source, account, group: &group, stream };
        match it.lets_write(action, &writing) {
            true => Ok(()),
            false => Err(NotLogged::NotLet { action }),
        }
    };
    let_do("logs:PutLogEvents")?;
    let event = || InputEvent { timestamp_ms: line.at.0, message: line.message.to_owned().into() };
    let put = |event| it.logs.put(account, group.clone(), name.clone(), vec![event], None);
    match put(event()).await {
        Err(LogsError::StreamNotFound) => {}
        done => return done.map(drop).map_err(refused),
    }
    let_do("logs:CreateLogStream")?;
    match it.logs.create_stream(account, group.clone(), name.clone()).await {
        Ok(()) | Err(LogsError::StreamExists) => {}
        Err(why) => return Err(refused(why)),
    }
    put(event()).await.map(drop).map_err(refused)
}
