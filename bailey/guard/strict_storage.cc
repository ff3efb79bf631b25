// A library whose threads' storage has a fixed place from the start (the model "initial-exec"), as
// jemalloc's: more than ld.so keeps for libraries that are loaded late.
[[gnu::tls_model("initial-exec")]] thread_local char bailey_storage[6000];

extern "C" char* bailey_storage_of_thread() { return bailey_storage; }
