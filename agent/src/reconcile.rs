//! What a lease's state on chain asks of the machine: a pure function, level-triggered. The same state always asks for the same, so nothing is
//! lost if an answer is.

use tenure_proto::tenure::market::v1::{CloseReason, Lease, LeaseState};

use crate::{
    disk::{Ended, Phase},
    workloads::View,
};

/// Longest `detail` of a report on chain, bytes.
pub const MAX_DETAIL: usize = 256;

/// What to do about one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Begin its program anew: the agent stopped while it ran.
    Restart,
    /// Tell the chain that the workload is in our hands and running.
    Ready,
    /// Tell the chain in one transaction that it was in our hands and how it ended: it was over before the chain knew of it, so no time passes between
    /// the two that would be paid.
    Over(Report),
    /// Tell the chain how it ended.
    Finish(Report),
    /// Let it stand still, or go on.
    Suspend(bool),
    /// End its program for this reason.
    End(String),
}

/// What is told to the chain about the end of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Why.
    pub reason: CloseReason,
    /// Exit code.
    pub exit_code: i32,
    /// How it ended, for the output list; none: nothing is left.
    pub ended: Option<Ended>,
    /// In words, at most [`MAX_DETAIL`] bytes.
    pub detail: String,
}

/// What a lease asks of the machine, given what the machine has of it.
pub fn step(lease: &Lease, view: Option<&View>) -> Step {
    let running = view.is_some_and(|view| view.running);
    match lease.state() {
        LeaseState::Closing | LeaseState::Closed => match view {
            Some(view) if view.record.phase == Phase::Running => Step::End(end_of_lease(lease)),
            _ => Step::Wait,
        },
        // A provider that lost the files cannot run it again: better to say so than to be silent until the lease expires.
        LeaseState::Active | LeaseState::Paused if view.is_none() => Step::Finish(Report {
            reason: CloseReason::Provider,
            exit_code: 0,
            ended: None,
            detail: "the provider no longer has the workload's files".to_owned(),
        }),
        LeaseState::Starting | LeaseState::Active | LeaseState::Paused => match view.map(|view| &view.record.phase) {
            None => Step::Wait,
            Some(Phase::Running) if !running => Step::Restart,
            Some(Phase::Running) if lease.state() == LeaseState::Starting => Step::Ready,
            Some(Phase::Ended(ended)) if lease.state() == LeaseState::Starting => Step::Over(report(ended)),
            Some(Phase::Running) => Step::Suspend(lease.state() == LeaseState::Paused),
            Some(Phase::Ended(ended)) => Step::Finish(report(ended)),
        },
        LeaseState::Unspecified => Step::Wait,
    }
}

fn report(ended: &Ended) -> Report {
    let reason = match ended {
        Ended { by_itself: false, .. } => CloseReason::Provider,
        Ended { exit_code: 0, .. } => CloseReason::Completed,
        _ => CloseReason::WorkloadFailed,
    };
    Report {
        reason,
        exit_code: ended.exit_code,
        detail: cut(&ended.detail, MAX_DETAIL),
        ended: Some(ended.clone()),
    }
}

/// The reason given to a workload whose lease is over.
pub fn end_of_lease(lease: &Lease) -> String {
    let reason = lease
        .reason()
        .as_str_name()
        .trim_start_matches("CLOSE_REASON_")
        .to_lowercase();
    format!("ended by the lease: {reason}")
}

/// At most this many bytes of a text, whole characters.
fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::LeaseRecord;

    fn lease(state: LeaseState) -> Lease {
        Lease {
            id: 7,
            state: state.into(),
            reason: CloseReason::Tenant.into(),
            ..Default::default()
        }
    }

    fn view(phase: Phase, running: bool) -> View {
        let record = LeaseRecord {
            lease_id: 7,
            tenant: String::new(),
            manifest_hash: String::new(),
            receipt_signature: String::new(),
            phase,
            retired_ms: None,
        };
        View {
            record,
            manifest: Default::default(),
            running,
            service: None,
            log_bytes: 0,
        }
    }

    fn ended(exit_code: i32, by_itself: bool) -> Phase {
        let detail = "d".repeat(300);
        Phase::Ended(Ended {
            exit_code,
            by_itself,
            detail,
            live_ms: 0,
            ran_from_ms: None,
            outputs: vec![],
        })
    }

    #[test]
    fn each_state_asks_for_one_step() {
        use LeaseState::{Active, Closed, Closing, Paused, Starting};
        let waiting = |state| step(&lease(state), None);
        assert_eq!(waiting(Starting), Step::Wait);
        assert_eq!(waiting(Closing), Step::Wait);
        assert!(matches!(waiting(Active), Step::Finish(r) if r.reason == CloseReason::Provider && r.ended.is_none()));

        let running = |state| step(&lease(state), Some(&view(Phase::Running, true)));
        assert_eq!(running(Starting), Step::Ready);
        assert_eq!(running(Active), Step::Suspend(false));
        assert_eq!(running(Paused), Step::Suspend(true));
        assert_eq!(running(Closing), Step::End("ended by the lease: tenant".into()));
        assert_eq!(running(Closed), Step::End("ended by the lease: tenant".into()));

        let cut_off = |state| step(&lease(state), Some(&view(Phase::Running, false)));
        assert_eq!(
            [cut_off(Starting), cut_off(Active), cut_off(Paused)],
            [Step::Restart, Step::Restart, Step::Restart]
        );
        assert!(
            matches!(cut_off(Closing), Step::End(_)),
            "a lease that is over never begins anew"
        );

        let done = |state, code, by_itself| step(&lease(state), Some(&view(ended(code, by_itself), false)));
        assert!(
            matches!(done(Starting, 0, true), Step::Over(r) if r.reason == CloseReason::Completed),
            "a program that was over before it was ready is not paid in between"
        );
        for (code, by_itself, reason) in [
            (0, true, CloseReason::Completed),
            (3, true, CloseReason::WorkloadFailed),
            (137, false, CloseReason::Provider),
        ] {
            let Step::Finish(report) = done(Active, code, by_itself) else {
                panic!("no report")
            };
            assert_eq!(
                (report.reason, report.exit_code, report.detail.len()),
                (reason, code, MAX_DETAIL)
            );
        }
        assert_eq!(done(Closing, 0, true), Step::Wait);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }
}
