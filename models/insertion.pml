/* Insertion into a shared table: of several inserts of one key one survives, and no reader sees one that failed.
 *
 * Sequential consistency is assumed: every load, store and compare-and-swap below is one step, and all see them
 * in one order.
 *
 * What is modelled, and where it is in the code:
 *  - the tentative slot, the look through the whole chain, the final compare-and-swap:
 *    bailey/table/writer.cc (insert)
 *  - who gives way, the bounded wait, clearing another's tentative slot, giving up after too many attempts:
 *    writer.cc (settle); here the wait ends at any time
 *  - an insert that finds the key answers `exists`: writer.cc (write, search)
 *  - somebody deletes the record: writer.cc (replace)
 *  - readers pass tentative slots over: bailey/table/table.cc (look), index.h (Candidates)
 *
 * Bounds: a chain of 3 slots; 2 inserters, each of which begins anew up to twice and gives up then; the same block, and with it the same slot value, in each of its attempts; one deletion; readers that
 * look at any moment.
 *
 * Whoever dies or is stopped does nothing more, which others don't notice here: any order of steps includes
 * those in which it has no more steps. So deaths anywhere are covered.
 *
 * Not modelled: records of other keys with the same tag (walked past; that they come and go is in the choice of the
 * slot), growth of the chain, what writers announce
 * (announce.pml).
 *
 * Mutations, each of which must fail:
 *  NO_SECOND_LOOK     an inserter does not look through the chain after it has placed its slot: two survive
 *  NO_TENTATIVE       it places its slot as final at once, and takes it back where it finds another
 *  NO_CLEARING        a tentative slot that is in one's way is passed over and not cleared
 */
#define SLOTS 3
#define INSERTERS 2
#define ATTEMPTS 3

#define TENTATIVE 16
#define tentative(value) (value >= TENTATIVE)

byte slot[SLOTS];                    /* 0, 1 + inserter, or TENTATIVE + that */

/* Ghosts. */
bool failed[INSERTERS];              /* it answered that it did not insert */
bool done[INSERTERS];
bool visible[INSERTERS];             /* a reader could see it, if it looked at that moment */
bool gave_up, deleted;
byte ended;

#define is_final(n) (slot[n] != 0 && !tentative(slot[n]))
#define finals ((is_final(0) -> 1 : 0) + (is_final(1) -> 1 : 0) + (is_final(2) -> 1 : 0))

/* What is always so: checked at every step that could change it. */
inline always() {
  assert(finals <= 1)
}
inline cas(n, from, to, did) {
  d_step {
    did = (slot[n] == from);
    if
    :: did ->
       slot[n] = to;
       if
       :: to != 0 && !tentative(to) -> visible[to - 1] = true
       :: else
       fi;
       always()
    :: else
    fi
  }
}

proctype inserter(byte who) {
  byte attempt, own, n, value, mine;
  bool did;
#ifdef NO_TENTATIVE
  mine = 1 + who;
#else
  mine = TENTATIVE + 1 + who;
#endif
again:
  /* search(): the key is there, or not. */
  atomic { n = 0; own = 255; did = false };
  do
  :: n < SLOTS ->
     value = slot[n];
     if
     :: value != 0 && !tentative(value) -> goto exists
     :: value == 0 -> own = n                   /* insert() takes the first empty slot: */
     :: value == 0 || tentative(value)          /* any of these, since others' records come and go before it */
     fi;
     n++
  :: n == SLOTS -> break
  od;
  if
  :: attempt == ATTEMPTS -> gave_up = true; failed[who] = true; goto end
  :: else -> attempt++
  fi;
  if
  :: own == 255 -> goto again                   /* the chain is full of others' tentative slots */
  :: else
  fi;
  cas(own, 0, mine, did);
  if
  :: !did -> goto again
  :: else
  fi;
#ifndef NO_SECOND_LOOK
  /* settle() */
  n = 0;
  do
  :: n == SLOTS -> break
  :: n < SLOTS && n == own -> n++
  :: n < SLOTS && n != own ->
     value = slot[n];
     if
     :: value == 0 -> n++
     :: value != 0 && !tentative(value) ->      /* the key is there */
        cas(own, mine, 0, did);
        goto again
     :: tentative(value) ->
#ifdef NO_CLEARING
        n++
#else
        if
        :: n < own ->                           /* it has precedence */
           cas(own, mine, 0, did);
           cas(n, value, 0, did);
           goto again
        :: n > own ->
           cas(n, value, 0, did)                /* and look at it again */
        fi
#endif
     fi
  od;
#endif
#ifdef NO_TENTATIVE
  did = true;
#else
  cas(own, mine, 1 + who, did);
#endif
  if
  :: did -> done[who] = true; goto end
  :: else -> goto again
  fi;
exists:
  failed[who] = true;
end:
  ended++
}

active proctype deleter() {
  byte n, value;
  bool did;
  if
  :: n = 0 :: n = 1 :: n = 2
  fi;
  value = slot[n];
  if
  :: value != 0 && !tentative(value) ->
     deleted = true;                            /* before it is, for the properties */
     cas(n, value, 0, did)
  :: else
  fi
}

init {
  atomic { run inserter(0); run inserter(1) };
  /* Where nobody gave up or deleted, one survived. */
  ended == INSERTERS -> assert(gave_up || deleted || (finals == 1 && done[0] + done[1] == 1));
  assert(!(failed[0] && visible[0]) && !(failed[1] && visible[1]))
}
