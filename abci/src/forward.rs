//! What a wrapper around an application passes on unchanged.

/// Inside an `impl Application for` a wrapper: the named calls go to the application in a field as they are.
///
/// ```
/// # use tendermint_abci::Application;
/// #[derive(Clone)]
/// struct Wrapper<A> {
///     app: A,
/// }
///
/// impl<A: Application> Application for Wrapper<A> {
///     // What the wrapper is for stands here; this is the rest.
///     tenure_abci::forward!(app: echo, info, check_tx, commit);
/// }
/// ```
///
/// A call that is neither written nor named keeps the trait's default, which answers for nobody: name all of the others.
#[macro_export]
macro_rules! forward {
    ($field:ident: $($call:ident),+ $(,)?) => {
        $($crate::forward!(@ $call $field);)+
    };
    (@ echo $field:ident) => { $crate::forward!(@@ $field echo RequestEcho ResponseEcho); };
    (@ info $field:ident) => { $crate::forward!(@@ $field info RequestInfo ResponseInfo); };
    (@ init_chain $field:ident) => { $crate::forward!(@@ $field init_chain RequestInitChain ResponseInitChain); };
    (@ query $field:ident) => { $crate::forward!(@@ $field query RequestQuery ResponseQuery); };
    (@ check_tx $field:ident) => { $crate::forward!(@@ $field check_tx RequestCheckTx ResponseCheckTx); };
    (@ flush $field:ident) => { $crate::forward!(@@ $field flush ResponseFlush); };
    (@ commit $field:ident) => { $crate::forward!(@@ $field commit ResponseCommit); };
    (@ list_snapshots $field:ident) => { $crate::forward!(@@ $field list_snapshots ResponseListSnapshots); };
    (@ offer_snapshot $field:ident) => {
        $crate::forward!(@@ $field offer_snapshot RequestOfferSnapshot ResponseOfferSnapshot);
    };
    (@ load_snapshot_chunk $field:ident) => {
        $crate::forward!(@@ $field load_snapshot_chunk RequestLoadSnapshotChunk ResponseLoadSnapshotChunk);
    };
    (@ apply_snapshot_chunk $field:ident) => {
        $crate::forward!(@@ $field apply_snapshot_chunk RequestApplySnapshotChunk ResponseApplySnapshotChunk);
    };
    (@ prepare_proposal $field:ident) => {
        $crate::forward!(@@ $field prepare_proposal RequestPrepareProposal ResponsePrepareProposal);
    };
    (@ process_proposal $field:ident) => {
        $crate::forward!(@@ $field process_proposal RequestProcessProposal ResponseProcessProposal);
    };
    (@ extend_vote $field:ident) => {
        $crate::forward!(@@ $field extend_vote RequestExtendVote ResponseExtendVote);
    };
    (@ verify_vote_extension $field:ident) => {
        $crate::forward!(@@ $field verify_vote_extension RequestVerifyVoteExtension ResponseVerifyVoteExtension);
    };
    (@ finalize_block $field:ident) => {
        $crate::forward!(@@ $field finalize_block RequestFinalizeBlock ResponseFinalizeBlock);
    };
    (@@ $field:ident $call:ident $request:ident $response:ident) => {
        fn $call(&self, request: $crate::proto::$request) -> $crate::proto::$response {
            self.$field.$call(request)
        }
    };
    (@@ $field:ident $call:ident $response:ident) => {
        fn $call(&self) -> $crate::proto::$response {
            self.$field.$call()
        }
    };
}
