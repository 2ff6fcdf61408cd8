//! Blocking work of requests: bounded in number and time, and no panic leaves it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::Status;

/// A bounded number of blocking jobs.
#[derive(Clone)]
pub struct Workers {
    permits: Arc<Semaphore>,
    most: usize,
    timeout: Duration,
}

impl Workers {
    /// At most `most` jobs at a time; a request waits for its turn and its result no longer than `timeout` in all.
    pub fn new(most: usize, timeout: Duration) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(most)),
            most,
            timeout,
        }
    }

    /// Runs a job on a blocking thread. Status: RESOURCE_EXHAUSTED if there was no turn in time, DEADLINE_EXCEEDED if there was no
    /// result in time, INTERNAL if the job panicked. A job that is given up still runs to its end and keeps its turn until then.
    pub async fn run<T, F>(&self, job: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let deadline = Instant::now() + self.timeout;
        let permit = match tokio::time::timeout_at(deadline, self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Status::unavailable("the node is stopping")),
            Err(_) => {
                return Err(Status::resource_exhausted(format!(
                    "the node is busy with {} requests (grpc.max-concurrent-requests); try again",
                    self.most
                )))
            }
        };
        let job = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            job()
        });
        match tokio::time::timeout_at(deadline, job).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) if e.is_panic() => {
                // The panic hook has printed message and place.
                tracing::error!("a request's handler panicked; the node goes on");
                Err(Status::internal("the handler panicked; the node's log has the place"))
            }
            Ok(Err(_)) => Err(Status::unavailable("the node is stopping")),
            Err(_) => Err(Status::deadline_exceeded(format!(
                "no answer within {:?} (grpc.request-timeout)",
                self.timeout
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[tokio::test]
    async fn a_panic_is_one_requests_answer() {
        let workers = Workers::new(1, Duration::from_secs(5));
        let status = workers
            .run(|| -> u8 { panic!("on purpose") })
            .await
            .expect_err("panicked");
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(workers.run(|| 7).await.expect("the permit came back"), 7);
    }

    #[tokio::test]
    async fn too_long_and_too_many_are_told_apart() {
        let workers = Workers::new(1, Duration::from_millis(50));
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let slow = workers
            .run(move || hold.recv_timeout(Duration::from_secs(10)))
            .await
            .expect_err("slow");
        assert_eq!(slow.code(), Code::DeadlineExceeded);
        // The job still runs and keeps its turn.
        let busy = workers.run(|| ()).await.expect_err("busy");
        assert_eq!(busy.code(), Code::ResourceExhausted);
        release.send(()).expect("the job waits");
        tokio::time::timeout(Duration::from_secs(5), async {
            while workers.run(|| ()).await.is_err() {}
        })
        .await
        .expect("the turn comes back");
    }
}
