//! One module per behaviour, named as a sentence. All in one program, so that
//! it is linked once.
#![expect(clippy::unwrap_used, reason = "tests")]

mod a_killed_process_is_recovered;
mod a_leaders_exit_is_not_a_death;
mod a_manual_restart_is_not_repeated;
mod a_thousand_kills_are_each_recovered_once;
