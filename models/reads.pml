/* Validated reads: no reader returns a record that was freed or used again under it, or one that was never
 * published; pages that change their class included.
 *
 * Sequential consistency is assumed: every load and store below is one step, and all see them in one order.
 * (The code runs on x86-64 and marks what must be seen in order with acquire and release; the fences of
 * fill_record(), still() and set_page() are what this assumption stands for.)
 *
 * What is modelled, and where it is in the code:
 *  - the reader: load slot, page word, record word; copy; slot, record word and page word again:
 *    bailey/table/record.h (sight, read_record, still)
 *  - the owner writes a record into a block that is busy, the word last: record.h (fill_record)
 *  - publishes it by the slot, then frees the old block, busy first: bailey/table/writer.cc (replace, write),
 *    heap.cc (release, cancel)
 *  - gives an empty page another class: no class, then every place of a record word busy, then the class; the
 *    page word's counter moves each time: heap.cc (set_page)
 *
 * Bounds: one slot; one page of four cells that is of class 1 (two blocks of a word and a cell), of class 2 (one
 * block of a word and three cells) or of none; another block that is always there; 4 versions; the page changes
 * its class up to 2 times, there and back. Where class 1 has a record word, a record of class 2 has payload: it
 * is chosen by the adversary, and looks like the record word of any version, also of one to come. Versions are
 * not written twice (bailey/table/writer.cc, prepare: writer id and counter); page words have 32 bits and more
 * of counter.
 * The reader is stopped anywhere for any time; one read of it is enough, since it keeps nothing.
 *
 * Not modelled: lengths (bounded by the block's class before they are used: record.h, check_lengths), runs of
 * pages, the comparison of keys, several slots.
 *
 * Mutations, each of which must fail:
 *  NO_SECOND_SLOT_LOAD    the slot is not loaded again: a record that was prepared and never published is read
 *  NO_SECOND_PAGE_LOAD    the page word is not loaded again: payload is taken for a record word
 *  NO_SECOND_WORD_LOAD    the record word is not loaded again: a torn record is read
 *  CLASS_BEFORE_BUSY      the page has its new class before the words of its blocks are busy
 */
#define VERSIONS 4
#define CLASS_CHANGES 2
#define FILLED(version) (32 + version)   /* what its payload cells hold */
#define BUSY 16              /* the lowest bit of a record word; 0 is busy too */
#define is_busy(word) (word == 0 || word >= BUSY)

/* Cells 0..3 are the page, 4 and 5 the other block, whose page never changes. */
byte cell[6];
byte page_class = 1, page_counter;   /* one word: read and written together */
byte slot = 255;                     /* the cell at which its record begins; 255: none */

byte published;                      /* ghost: the version that the slot leads to; 0: none */

/* Frees a block: its word first. */
inline give_back(at) {
  cell[at] = cell[at] + BUSY;
  lives[at] = false
}

active proctype owner() {
  byte version, changes, at, old;
  bool lives[6];                     /* whether a record lives in the block that begins there */
  do
  :: version < VERSIONS ->
     if                                         /* a free block */
     :: page_class == 1 && !lives[0] -> at = 0
     :: page_class == 1 && !lives[2] -> at = 2
     :: page_class == 2 && !lives[0] -> at = 0
     :: !lives[4] -> at = 4
     fi;
     version++;
     lives[at] = true;
     cell[at + 1] = FILLED(version);
     if
     :: at == 0 && page_class == 2 ->
        if                                      /* chosen by whoever puts */
        :: cell[2] = 1
        :: cell[2] = 2
        :: cell[2] = 3
        :: cell[2] = 4
        fi;
        cell[3] = FILLED(version)
     :: else
     fi;
     cell[at] = version;
     if
     :: old = slot;
        atomic { slot = at; published = version };
        if
        :: old != 255 -> give_back(old)
        :: old == 255
        fi
     :: give_back(at)                           /* somebody was quicker: cancelled, never published */
     fi;
     atomic { at = 0; old = 0 }
  :: slot != 255 ->                             /* erased */
     old = slot;
     atomic { slot = 255; published = 0 };
     give_back(old);
     old = 0
  :: changes < CLASS_CHANGES && !lives[0] && !lives[2] ->
     changes++;
     old = page_class;
     atomic { page_class = 0; page_counter++ };
#ifdef CLASS_BEFORE_BUSY
     atomic { page_class = 3 - old; page_counter++ };
#endif
     cell[0] = BUSY + 15;
     if
     :: old == 2 -> cell[2] = BUSY + 15
     :: else
     fi;
#ifndef CLASS_BEFORE_BUSY
     atomic { page_class = 3 - old; page_counter++ };
#endif
     old = 0
  :: break
  od
}

active proctype reader() {
  byte at, class_seen, counter_seen, word, copy[3], count, i, led_to;
  bool same;
  at = slot;
  if
  :: at == 255 -> goto done
  :: else
  fi;
  if
  :: at == 4 -> class_seen = 1; counter_seen = 0
  :: else -> atomic { class_seen = page_class; counter_seen = page_counter }
  fi;
  if                                            /* no block of this class begins there */
  :: class_seen == 0 || (class_seen == 2 && at == 2) -> goto done
  :: else
  fi;
  word = cell[at];
  if
  :: is_busy(word) -> goto done
  :: else
  fi;
  count = (class_seen == 2 -> 3 : 1);
  do
  :: i < count -> copy[i] = cell[at + 1 + i]; i++
  :: else -> break
  od;
#ifdef NO_SECOND_SLOT_LOAD
  same = true;
  led_to = published;
#else
  atomic { same = (slot == at); led_to = published };
#endif
#ifndef NO_SECOND_WORD_LOAD
  same = same && cell[at] == word;
#endif
#ifndef NO_SECOND_PAGE_LOAD
  if
  :: at == 4
  :: else -> atomic { same = same && page_class == class_seen && page_counter == counter_seen }
  fi;
#endif
  if
  :: same ->
     /* What it returns was in the table at one moment of the read, and is whole. */
     assert(word == led_to);
     assert(copy[0] == FILLED(word) && (count == 1 || copy[2] == FILLED(word)))
  :: else
  fi;
done:
  skip
}
