//! The search for an order: depth first over what may come next, remembering what was tried (Wing and Gong, with Lowe's memory).
//! Never explains; it says how far it came.

use std::collections::HashSet;

use super::model::{State, Step};

/// How the search ended.
pub(super) enum Searched<'a> {
    /// There is an order.
    Found,
    /// There is none.
    None(Furthest<'a>),
    /// More states than allowed.
    GaveUp,
}

/// The longest order that was found, as places in the list of steps, and the state that it leaves.
pub(super) struct Furthest<'a> {
    pub(super) order: Vec<usize>,
    pub(super) state: State<'a>,
}

/// Calls and answers in order of time, as a list from which placed operations are taken out and put back.
struct Events {
    /// The step of each event and whether it is its answer. The last place is the list's head and end.
    events: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    answer_of: Vec<Option<usize>>,
}

impl Events {
    fn new(steps: &[Step<'_>]) -> Self {
        let calls = steps.iter().enumerate();
        let mut timed: Vec<(u64, bool, usize)> = calls
            .map(|(at, s)| (s.operation.called, false, at))
            .collect();
        let answers = steps.iter().enumerate();
        timed.extend(answers.filter_map(|(at, s)| Some((s.answered_at()?, true, at))));
        timed.sort_unstable();
        let count = timed.len();
        let events: Vec<(usize, bool)> = timed.into_iter().map(|(_, is, at)| (at, is)).collect();
        let mut answer_of = vec![None; steps.len()];
        for (place, (step, is_answer)) in events.iter().enumerate() {
            if *is_answer {
                answer_of[*step] = Some(place);
            }
        }
        Self {
            events,
            next: (1..=count).chain([0]).collect(),
            previous: [count].into_iter().chain(0..count).collect(),
            answer_of,
        }
    }

    fn end(&self) -> usize {
        self.events.len()
    }

    fn first(&self) -> usize {
        self.next[self.end()]
    }

    fn unlink(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    fn link(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = place;
        self.previous[next] = place;
    }

    fn take_out(&mut self, call: usize) {
        self.unlink(call);
        if let Some(answer) = self.answer_of[self.events[call].0] {
            self.unlink(answer);
        }
    }

    fn put_back(&mut self, call: usize) {
        if let Some(answer) = self.answer_of[self.events[call].0] {
            self.link(answer);
        }
        self.link(call);
    }
}

/// A number that stands for a step (splitmix64, twice). A set of steps is known by the exclusive or of its marks: two sets share
/// one only by a miracle.
fn mark(step: usize) -> u128 {
    let half = |seed: u64| {
        let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(mixed ^ (mixed >> 31))
    };
    let seed = step as u64 * 2 + 1;
    half(seed) << 64 | half(seed + 1)
}

/// Looks for an order of the steps that begins without any of so many records.
pub(super) fn search<'a>(steps: &[Step<'a>], records: usize, states_max: usize) -> Searched<'a> {
    let mut events = Events::new(steps);
    let mut tried = HashSet::new();
    let mut state = State::without(records);
    let mut placed = 0u128;
    let mut is_placed = vec![false; steps.len()];
    // What the state tells by itself is not remembered beside it.
    let mark = |step: usize| match steps[step].is_told_by_state() {
        true => 0,
        false => mark(step),
    };
    let mut owed = steps.iter().filter(|s| s.is_answered()).count();
    let mut stack: Vec<(usize, State<'_>)> = Vec::new();
    let mut furthest = (owed + 1, Vec::new(), state.clone());
    let mut place = events.first();
    while owed > 0 {
        let (step, is_answer) = events.events.get(place).copied().unwrap_or((0, true));
        if !is_answer {
            if steps[step].stand_in().is_none_or(|first| is_placed[first])
                && let Some(after) = steps[step].take(&state)
                && tried.insert((placed ^ mark(step), after.clone()))
            {
                if tried.len() > states_max {
                    return Searched::GaveUp;
                }
                stack.push((place, std::mem::replace(&mut state, after)));
                placed ^= mark(step);
                is_placed[step] = true;
                owed -= usize::from(steps[step].is_answered());
                events.take_out(place);
                place = events.first();
            } else {
                place = events.next[place];
            }
            continue;
        }
        if owed < furthest.0 {
            let order = stack.iter().map(|(place, _)| events.events[*place].0);
            furthest = (owed, order.collect(), state.clone());
        }
        // An answer came before anything that can be next: the last choice was wrong.
        let Some((call, before)) = stack.pop() else {
            let (_, order, state) = furthest;
            return Searched::None(Furthest { order, state });
        };
        state = before;
        let step = events.events[call].0;
        placed ^= mark(step);
        is_placed[step] = false;
        owed += usize::from(steps[step].is_answered());
        events.put_back(call);
        place = events.next[call];
    }
    Searched::Found
}
