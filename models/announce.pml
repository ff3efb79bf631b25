/* Announcements of slot values: no update is lost, though blocks are used again (ABA).
 *
 * Sequential consistency is assumed: every load, store and compare-and-swap below is one step, and all see them
 * in one order. (What needs it most is that an announcement comes before the loads after it:
 * bailey/medium/access.h, store_then_fence; and the owner's look at the desks after its block left the index:
 * bailey/table/writer.cc, announced.)
 *
 * What is modelled, and where it is in the code:
 *  - a replacement: load the slot, announce its value, load the slot again, read the record and validate it,
 *    compare-and-swap: bailey/table/writer.cc (search, replace), write_at_once.h, record.h (still)
 *  - put_if_version: the version that is compared is the one that is replaced: writer.cc (write)
 *  - an owner's block that left the index, by its own hand or another's, is marked busy, waits in limbo, and is
 *    free once no living peer announces it: writer.cc (unlinked, sweep, collect), heap.cc (release, drain)
 *  - a writer that died is asked nothing, and its announcement holds nothing back: bailey/broker/segments.cc
 *    (members)
 *
 * Bounds: one slot; 2 writers, each with 2 blocks of its own, which replace each other's and their own records;
 * 4 versions in all.
 * Whoever dies or is stopped does nothing more: any order of steps includes those in which it has no more steps.
 * Others notice a death by an announcement that counts no more, so it happens where one stands.
 *
 * Not modelled: several slots, moves (a moved record keeps its version; it is replaced in the same way:
 * bailey/table/evacuate.cc, move_record), what writers do when they leave their segments (a block that was left
 * is never used again).
 *
 * Mutations, each of which must fail:
 *  NO_LOOK_AT_DESKS     a block that left the index is free at once
 *  ANNOUNCED_LATE       a writer announces only what it has read already
 *  NO_SECOND_LOADS_AND_NOT_BUSY
 *                       the slot is not loaded again after the announcement, and a freed block is not marked
 *                       busy
 * Each half of the last one alone is made up for by the other half: NO_SECOND_LOADS and NOT_BUSY must hold.
 */
#define WRITERS 2
#define VERSIONS 4
#define BUSY 16

#ifdef NO_SECOND_LOADS_AND_NOT_BUSY
#define NO_SECOND_LOADS
#define NOT_BUSY
#endif

/* Blocks 1 and 2 are writer 0's, 3 and 4 writer 1's; 0 is none. */
byte word[5];                        /* record words: a version, with BUSY or not; 0 is busy */
byte slot = 1;                       /* the block that it leads to */
byte announced[WRITERS];             /* desks */
bool died[WRITERS];                  /* and the broker has heard of it */
byte versions = 1;                   /* so many were given out: in the code by writer id and counter */

#define is_busy(w) (w == 0 || w >= BUSY)
#define own(who, n) (1 + 2 * who + n)

mtype = { vacant, filled, linked, limbo };

proctype writer(byte who) {
  byte seen, version, block, n, theirs;
  mtype about[2];                    /* its books of its own blocks */
  atomic {
    about[0] = vacant; about[1] = vacant;
    if
    :: who == 0 -> about[0] = linked
    :: else
    fi
  };
next:
  atomic { seen = 0; version = 0; block = 0; n = 0; theirs = 0 };
  if
  :: true ->
     /* A replacement. search(): */
     seen = slot;
#ifndef ANNOUNCED_LATE
     announced[who] = seen;
#ifndef NO_SECOND_LOADS
     if
     :: slot != seen -> goto next
     :: slot == seen
     fi;
#endif
#endif
     version = word[seen];
     if
     :: is_busy(version) -> goto next
     :: else
     fi;
#ifndef NO_SECOND_LOADS
     if                                         /* still() */
     :: slot != seen -> goto next
     :: slot == seen
     fi;
#endif
     if
     :: word[seen] != version -> goto next
     :: else
     fi;
#ifdef ANNOUNCED_LATE
     announced[who] = seen;
#endif
     /* prepare(): a free block of its own. */
     if
     :: died[who] = true; goto out
     :: about[0] == vacant -> n = 0
     :: about[1] == vacant -> n = 1
     :: about[0] != vacant && about[1] != vacant -> announced[who] = 0; goto next
     fi;
     block = own(who, n);
     about[n] = filled;
     atomic {
       if
       :: versions == VERSIONS -> goto out
       :: else -> versions++; word[block] = versions
       fi
     };
     atomic {
       if
       :: slot == seen ->
          /* What it replaces is what it compared. */
          assert(word[seen] % BUSY == version);
          slot = block;
          about[n] = linked
       :: else ->
          about[n] = vacant;                    /* cancel() */
          word[block] = word[block] + BUSY;
          block = 0
       fi
     };
     announced[who] = 0
  :: atomic { about[0] == linked && slot != own(who, 0) -> n = 0 };
     goto release                               /* a sweep, or a hint: no slot leads to it */
  :: atomic { about[1] == linked && slot != own(who, 1) -> n = 1 };
     goto release
  :: about[0] == limbo -> n = 0; goto collect
  :: about[1] == limbo -> n = 1; goto collect
  fi;
  goto next;

release:
#ifndef NOT_BUSY
  word[own(who, n)] = word[own(who, n)] + BUSY;
#endif
  about[n] = limbo;
  goto next;

collect:
#ifndef NO_LOOK_AT_DESKS
  if
  :: !died[1 - who] ->
     theirs = announced[1 - who];
     if
     :: theirs == own(who, n) -> goto next
     :: else
     fi
  :: died[1 - who]
  fi;
#endif
  about[n] = vacant;
  goto next;
out:
  skip
}

init {
  atomic { word[1] = 1; run writer(0); run writer(1) }
}
