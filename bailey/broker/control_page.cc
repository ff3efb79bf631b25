#include "bailey/broker/control_page.h"

#include <algorithm>

#include "bailey/medium/access.h"
#include "bailey/medium/file.h"

namespace bailey::broker {

Result<ControlPage> ControlPage::create(const medium::Allocator& allocator, const Id& pool,
                                        std::uint64_t epoch) {
  // In memory whatever the pool's medium is: it says what lives now.
  medium::Place memory;
  constexpr std::uint64_t bytes = sizeof(bailey_control);
  static_assert(bytes % 4096 == 0);
  Fd file = BAILEY_TRY(medium::create_file(memory, "bailey-control", bytes));
  BAILEY_TRY(medium::allocate(allocator, memory, file.get(), bytes, "the control page"));
  ControlPage control;
  // Inherited: each broker is a forked child of the keeper, which is who writes.
  control.mapping_ =
      BAILEY_TRY(Mapping::of_file(file.get(), bytes, Access::read_write, Mapping::Fork::inherited));
  bailey_control* page = control.page();
  page->header.magic = BAILEY_CONTROL_MAGIC;
  page->header.version = BAILEY_CONTROL_VERSION;
  page->header.layout = BAILEY_LAYOUT;
  control.set_pool(pool);
  control.set_epoch(epoch);
  for (bailey_grant_word& word : page->grants) medium::store_release(&word.value, epoch << 32);
  BAILEY_TRY(medium::seal(memory, file.get(), medium::Purpose::control));
  control.reader_ = BAILEY_TRY(medium::reopen_read_only(file.get()));
  return control;
}

void ControlPage::set_pool(const Id& pool) { std::copy(pool.begin(), pool.end(), page()->header.pool); }
void ControlPage::set_epoch(std::uint64_t epoch) {
  medium::store_release(&page()->header.broker_epoch, epoch);
}

std::uint64_t ControlPage::grant(std::uint32_t number) const {
  return medium::load_acquire(&page()->grants[number].value);
}
std::uint64_t ControlPage::bump_grant(std::uint32_t number) {
  return __atomic_add_fetch(&page()->grants[number].value, 1, __ATOMIC_SEQ_CST);
}
std::uint64_t ControlPage::membership(std::uint32_t region) const {
  return medium::load_acquire(&page()->regions[region].membership);
}
void ControlPage::bump_membership(std::uint32_t region) {
  __atomic_add_fetch(&page()->regions[region].membership, 1, __ATOMIC_SEQ_CST);
}

}  // namespace bailey::broker
