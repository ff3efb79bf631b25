/* Revocation: no operation succeeds of which anything happened after the revocation had returned.
 *
 * An operation's last load is the session's grant word; so this says that no operation whose last check
 * follows the revocation succeeds. Sequential consistency is assumed: every load and store below is one step,
 * and all see them in one order.
 *
 * What is modelled, and where it is in the code:
 *  - the grant word, which outlives the broker (the keeper has the page): bailey/broker/control_page.cc
 *  - opening, Attend, revoke(), close_open(): bailey/broker/grants.cc, regions.cc (opened)
 *  - the policy, committed before anything is revoked: bailey/broker/apply.cc (apply_text)
 *  - a broker that takes over: bailey/broker/recover.cc (recover_sessions)
 *  - an operation of a session, its last load, Attend: bailey/table/table.cc (look), bailey/pool/view.h (current)
 *  - an exchange that is repeated when the broker died under it: bailey/session/core.cc (exchange)
 *
 * Bounds: one grant number, which two sessions use one after the other; session 0 loses its grant, may be
 * given it again and loses it once more; the broker dies once, between any two of its steps;
 * either session, and the one that applies the policy, dies anywhere. Grant words are 64 bits long in the code
 * and do not come round; here they have room for all that can happen within the bounds.
 *
 * Not modelled: regions, files and quotas; how long revoke() waits for a session that does not answer (here:
 * any time, also none).
 *
 * Mutations, each of which must fail:
 *  CHECK_FIRST            an operation looks at its grant word first and not last
 *  NO_BUMP_AT_RECOVERY    a broker that takes over does not move the words of opens that it finds revoked
 *  ANSWER_BEFORE_BUMP     the admin is answered before the word has moved
 */
#define SESSIONS 2
#define DEATHS 1

mtype = { none, live, revoked };

/* Committed state: what a broker that takes over finds. */
mtype open_is = none;
byte open_of;
bool allowed[SESSIONS] = true;

byte word = 1;             /* the grant word */
byte epoch;                /* counts brokers: a new one has none of the old one's connections */
byte deaths;
bool session_died[SESSIONS];

/* Requests and answers, one at a time a connection. */
mtype = { open_region, attend, yes, no };
chan ask[SESSIONS] = [1] of { mtype };
chan told[SESSIONS] = [1] of { mtype, byte };
chan apply = [1] of { bool };
chan applied = [1] of { bool };

/* Ghosts, known to the properties alone. */
bool over[SESSIONS];       /* what this session has open was revoked, and the revocation has returned */

inline dies_here() {
  if
  :: deaths < DEATHS -> goto died
  :: true
  fi
}

active proctype broker() {
  byte who, s;
  bool wanted;
end_serve:
  do
  :: atomic { ask[0]?[open_region] -> who = 0; ask[0]?open_region }; goto opening
  :: atomic { ask[1]?[open_region] -> who = 1; ask[1]?open_region }; goto opening
  :: atomic { ask[0]?[attend] -> who = 0; ask[0]?attend }; goto attending
  :: atomic { ask[1]?[attend] -> who = 1; ask[1]?attend }; goto attending
  :: apply?wanted -> goto applying
  :: open_is != none && session_died[open_of] ->    /* the kernel says so: close_open() */
     open_is = none
  od;

opening:
  dies_here();
  if
  :: !allowed[who] || open_is != none -> told[who]!no, 0
  :: else ->
     atomic { open_is = live; open_of = who };      /* committed */
     dies_here();
     word++;                                        /* so that whoever had this word before holds it no more */
     dies_here();
     told[who]!yes, word
  fi;
  goto end_serve;

attending:
  dies_here();
  if
  :: open_is == live && open_of == who -> told[who]!yes, word
  :: else ->
     if
     :: open_is == revoked && open_of == who -> open_is = none  /* it has heard */
     :: else
     fi;
     dies_here();
     told[who]!no, 0
  fi;
  goto end_serve;

applying:
  dies_here();
  allowed[0] = wanted;                              /* the policy is committed first */
  dies_here();
  if
  :: open_is == live && !allowed[open_of] ->
#ifdef ANSWER_BEFORE_BUMP
     applied!true;
#endif
     open_is = revoked;                             /* committed, then the word moves */
     dies_here();
     word++;
     dies_here()
  :: else
  fi;
  /* It waits until the session has heard of it, or is cut off: in this model it may attend in between, or not. */
  do
  :: open_is == revoked && ask[open_of]?[attend] ->
     s = open_of; ask[s]?attend; open_is = none;
     dies_here();
     told[s]!no, 0
  :: open_is == revoked -> open_is = none; break    /* cut off */
  :: open_is != revoked -> break
  od;
  dies_here();
#ifndef ANSWER_BEFORE_BUMP
  applied!true;
#endif
  goto end_serve;

died:
  /* Connections die with it, and all that was under way on them. */
  atomic {
    deaths++; epoch++;
    do
    :: len(ask[0]) > 0 -> ask[0]?_
    :: len(ask[1]) > 0 -> ask[1]?_
    :: len(told[0]) > 0 -> told[0]?_, _
    :: len(told[1]) > 0 -> told[1]?_, _
    :: len(apply) > 0 -> apply?_
    :: len(applied) > 0 -> applied?_
    :: else -> break
    od
  };
  /* The next one. */
  if
  :: open_is == revoked || (open_is == live && session_died[open_of]) ->
#ifndef NO_BUMP_AT_RECOVERY
     word++;
#endif
     dies_here();
     open_is = none
  :: open_is == live ->                             /* what it was told last it may not have heard */
     word++
  :: open_is == none
  fi;
  dies_here();
  goto end_serve
}

/* One exchange with the broker; answer is no where the broker died under it, since nothing is known then. */
inline exchange(s, request, answer, value) {
  atomic { at = epoch; ask[s]!request };
  do
  :: told[s]?answer, value -> break
  :: atomic { epoch != at -> at = epoch; ask[s]!request }
  od
}

proctype session(byte s) {
  byte at, expected, value;
  mtype answer;
  bool after, current;
idle:
  if
  :: expected == 0 ->
     exchange(s, open_region, answer, value);
     if
     :: answer == yes -> atomic { expected = value; over[s] = false }
     :: answer == no
     fi
  :: expected != 0 ->
     /* An operation: something happens, and the word is looked at. */
#ifdef CHECK_FIRST
     current = (word == expected);
     after = over[s];
#else
     after = over[s];
     current = (word == expected);
#endif
     if
     :: current ->
        assert(!after)
     :: !current ->
        exchange(s, attend, answer, value);
        if
        :: answer == yes -> expected = value
        :: answer == no -> expected = 0
        fi
     fi
  fi;
  atomic { answer = 0; value = 0; after = false; current = false };
  if
  :: goto idle
  :: session_died[s] = true                         /* or it just stops, for ever */
  :: true
  fi
}

/* Takes the grant of session 0, gives it again, takes it again. Repeats what the broker died under. */
proctype admin() {
  byte at, n;
  bool wanted;
  do
  :: n < 3 ->
     wanted = (n == 1);
     atomic { at = epoch; apply!wanted };
     do
     :: atomic { applied?_ -> if :: !wanted -> over[0] = true :: wanted fi }; break
     :: atomic { epoch != at -> at = epoch; apply!wanted }
     :: goto killed
     od;
     n++
  :: n == 3 -> break
  :: goto killed
  od;
killed:
  skip
}

init { atomic { run session(0); run session(1); run admin() } }
