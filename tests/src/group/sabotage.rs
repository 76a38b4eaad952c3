//! Worlds that are broken on purpose, each in one rule that the members rely on: a checker must notice. None of it is shipped code.

/// Which rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A member is told that its writes are on disk before they are.
    ReplyBeforeFsync,
    /// Reads are answered from a member's state at once.
    SkipReadIndex,
    /// A retry counts as a request of its own.
    ForgetDedupe,
    /// One member applies what it gets in another order.
    ApplyInHashOrder,
    /// A member comes back with an emptied disk and says it were the same.
    Amnesia,
    /// A disk keeps the log and forgets in which terms the member promised something, and whom.
    ForgetVote,
    /// Subscribers miss a change now and then.
    LoseChanges,
    /// A conflict is told from the leader's state and is not remembered under the request's id.
    ForgetConflicts,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Sabotage; 8] = [
        Sabotage::ReplyBeforeFsync,
        Sabotage::SkipReadIndex,
        Sabotage::ForgetDedupe,
        Sabotage::ApplyInHashOrder,
        Sabotage::Amnesia,
        Sabotage::ForgetVote,
        Sabotage::LoseChanges,
        Sabotage::ForgetConflicts,
    ];
}
