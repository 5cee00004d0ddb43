"""GPUs of AMD and Intel, by files as their drivers write them."""

from __future__ import annotations

import os

import pytest

from supervisor_app.core.machine.devices.drm import has_nvidia, read_drm

KIB, MIB, GIB = 2**10, 2**20, 2**30
AMD, INTEL = "0x1002", "0x8086"
OURS = frozenset({7})
AMDGPU_NOW = """pos:	0
flags:	02100002
mnt_id:	26
ino:	1234
drm-driver:	amdgpu
drm-client-id:	{client}
drm-pdev:	{address}
pasid:	32770
drm-total-cpu:	0
drm-shared-cpu:	0
drm-total-gtt:	22 MiB
drm-resident-gtt:	22 MiB
drm-total-vram:	{kib} KiB
drm-shared-vram:	13584 KiB
drm-active-vram:	260356 KiB
drm-resident-vram:	{kib} KiB
drm-purgeable-vram:	0
drm-memory-vram:	{kib} KiB
drm-memory-gtt: 	22528 KiB
drm-memory-cpu: 	0 KiB
amd-evicted-vram:	0 KiB
amd-requested-vram:	{kib} KiB
drm-engine-compute:	500 ns
"""
AMDGPU_BEFORE = """pos:	0
drm-driver:	amdgpu
drm-client-id:	{client}
drm-pdev:	{address}
drm-memory-vram:	{kib} KiB
drm-memory-gtt: 	22528 KiB
"""
XE = """drm-driver:	xe
drm-client-id:	{client}
drm-pdev:	{address}
drm-total-gtt:	192 KiB
drm-resident-gtt:	192 KiB
drm-total-vram0:	{kib} KiB
drm-resident-vram0:	{kib} KiB
drm-cycles-rcs:	28257900
"""
I915 = """drm-driver:	i915
drm-client-id:	{client}
drm-pdev:	{address}
drm-total-system0:	4 MiB
drm-total-local0:	{kib} KiB
drm-resident-local0:	{kib} KiB
"""


def fields(form, kib, client=3, address="0000:03:00.0"):
    return form.format(kib=kib, client=client, address=address)


def amd(machine, number=0, address="0000:03:00.0", total=24 * GIB, used=5 * GIB, **more):
    machine.card(
        number,
        vendor=AMD,
        address=address,
        mem_info_vram_total=total,
        mem_info_vram_used=used,
        mem_info_gtt_total=12 * GIB,
        **more,
    )


def read(machine, ours=OURS):
    return read_drm(machine.sys, machine.proc, ours)


@pytest.mark.parametrize("form", [AMDGPU_NOW, AMDGPU_BEFORE])
def test_a_card_of_amd(machine, form):
    amd(machine, product_name="Radeon RX 7900 XTX")
    machine.process(7)
    machine.descriptor(7, 5, fields(form, 2 * GIB // KIB))
    (device,) = read(machine).devices
    assert (device.id, device.name) == ("0000:03:00.0", "GPU 0000:03:00.0: Radeon RX 7900 XTX")
    assert (device.total, device.free) == (24 * GIB, 19 * GIB)
    assert (device.ours, device.strangers) == (2 * GIB, 3 * GIB)


def test_a_client_counts_once_whatever_descriptors_and_processes_share_it(machine):
    amd(machine)
    for pid in (7, 8):
        for number in (5, 6):
            machine.descriptor(pid, number, fields(AMDGPU_NOW, 1024))
    machine.descriptor(8, 9, fields(AMDGPU_NOW, 512, client=4))
    (device,) = read(machine, frozenset({7, 8})).devices
    assert device.ours == 1536 * KIB
    assert sum(device.users.values()) == device.ours


def test_each_card_has_what_is_on_it(machine):
    amd(machine)
    amd(machine, 1, "0000:83:00.0")
    machine.descriptor(7, 5, fields(AMDGPU_NOW, 1024))
    machine.descriptor(7, 6, fields(AMDGPU_NOW, 2048, client=9, address="0000:83:00.0"))
    assert [device.ours for device in read(machine).devices] == [MIB, 2 * MIB]


def test_cards_are_in_the_order_of_their_numbers(machine):
    amd(machine, 10, "0000:0a:00.0")
    amd(machine, 2, "0000:02:00.0")
    assert [device.id for device in read(machine).devices] == ["0000:02:00.0", "0000:0a:00.0"]


def test_descriptors_of_anything_but_a_gpu_are_not_looked_into(machine):
    amd(machine)
    machine.descriptor(7, 5, fields(AMDGPU_NOW, 1024), target="/tmp/dev/dri/x")
    machine.descriptor(7, 6, fields(AMDGPU_NOW, 1024), target="socket:[99]")
    assert read(machine).devices[0].ours == 0


def test_the_use_of_intels_xe_is_told_by_the_processes(machine):
    machine.card(0, vendor=INTEL, tile0__physical_vram_size_bytes="0x00000003fa000000")
    machine.descriptor(7, 5, fields(XE, 1024))
    machine.descriptor(9, 5, fields(XE, 4096, client=8))
    (device,) = read(machine).devices
    assert device.total == 0x3FA000000
    assert (device.ours, device.strangers) == (MIB, 4 * MIB)
    assert device.free == device.total - 5 * MIB
    assert device.note == "What processes of other users have may not be seen."


def test_the_memory_of_intels_i915_is_told_by_the_card(machine):
    machine.card(0, vendor=INTEL)
    card = machine.sys / "class/drm/card0"
    machine.write(card / "lmem_total_bytes", f"{16 * GIB}\n")
    machine.write(card / "lmem_avail_bytes", f"{15 * GIB}\n")
    machine.descriptor(7, 5, fields(I915, 2048))
    (device,) = read(machine).devices
    assert (device.total, device.free, device.ours) == (16 * GIB, 15 * GIB, 2 * MIB)


def test_a_card_without_memory_of_its_own_is_no_device(machine):
    machine.card(0, vendor=INTEL)
    assert read(machine).as_json() == {"devices": [], "problems": []}


def test_without_cards_there_is_nothing(machine):
    assert read(machine).as_json() == {"devices": [], "problems": []}
    assert not has_nvidia(machine.sys)


def test_a_card_of_nvidia_is_seen_and_left_to_its_driver(machine):
    machine.card(1, vendor="0x10de")
    assert read(machine).devices == ()
    assert has_nvidia(machine.sys)


@pytest.mark.parametrize("said", ["", "lots", "-5", str(2**63), "\x00"])
def test_a_driver_that_says_nonsense_is_one_sentence_and_hides_no_other_card(machine, said):
    amd(machine, total=said)
    amd(machine, 1, "0000:83:00.0")
    found = read(machine)
    assert [device.id for device in found.devices] == ["0000:83:00.0"]
    (problem,) = found.problems
    assert problem.startswith("GPU 0000:03:00.0: AMD 0x744c cannot be read: ")
    assert "\n" not in problem


def test_a_card_without_a_name_or_an_address_goes_by_what_it_has(machine):
    amd(machine)
    device = machine.sys / "class/drm/card0/device"
    (device / "uevent").unlink()
    (found,) = read(machine).devices
    assert (found.id, found.name) == ("device", "GPU device: AMD 0x744c")


def test_a_card_whose_maker_cannot_be_read_is_passed_over(machine):
    amd(machine)
    (machine.sys / "class/drm/card0/device/vendor").unlink()
    assert read(machine).as_json() == {"devices": [], "problems": []}


def test_a_descriptor_that_is_closed_meanwhile_counts_as_nothing(machine):
    amd(machine)
    machine.descriptor(7, 5, fields(AMDGPU_NOW, 1024))
    (machine.proc / "7/fdinfo/5").unlink()
    assert read(machine).devices[0].ours == 0


def test_where_no_process_can_be_listed_a_card_of_intel_is_free(machine):
    machine.card(0, vendor=INTEL, tile0__physical_vram_size_bytes=GIB)
    machine.proc.rmdir()
    assert read(machine).devices[0].free == GIB


def test_a_card_that_vanishes_is_one_sentence(machine):
    amd(machine)
    os.remove(machine.sys / "class/drm/card0/device/mem_info_vram_used")
    (problem,) = read(machine).problems
    assert "No such file or directory" in problem


@pytest.mark.parametrize(
    "text", ["", "drm-pdev", "drm-memory-vram:\tmuch\n", "\x00\x01:\n", "drm-total-vram: 5 parsecs"]
)
def test_nonsense_of_a_process_counts_as_nothing(machine, text):
    amd(machine)
    machine.descriptor(7, 5, "drm-pdev:\t0000:03:00.0\n" + text)
    assert read(machine).devices[0].ours == 0


def test_more_than_the_card_says_is_used_is_no_more_than_it_has(machine):
    amd(machine, total=GIB, used=0)
    machine.descriptor(7, 5, fields(AMDGPU_NOW, 5 * GIB // KIB))
    (device,) = read(machine).devices
    assert (device.ours, device.free, device.strangers) == (GIB, 0, 0)
