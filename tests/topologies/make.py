#!/usr/bin/env python3
"""make.py -- writes the hosts that test_bind plans for, in hwloc's format.

    switches.xml  2 packages of 8 cores with 2 threads; 4 switches with 2 GPUs and 1 NIC each, as
                  a DGX has them
    roots.xml     1 package of 8 cores; 4 GPUs and 2 NICs, each on a PCI root of its own, so that
                  none is nearer than another; the slow NIC beside them does no RDMA
"""
import itertools
import pathlib
import textwrap

GPU, RDMA, ETHERNET = '0302 [10de:2330]', '0207 [15b3:1021]', '0200 [8086:1563]'
SWITCH = '0604 [11f8:4000]'


class Host:
    def __init__(self):
        self.lines, self.number, self.depth = [], itertools.count(1), 1

    def open(self, kind, **attributes):
        words = ''.join(f' {k}="{v}"' for k, v in attributes.items())
        number = next(self.number)
        blanks = '  ' * self.depth
        self.lines += textwrap.wrap(f'<object type="{kind}" gp_index="{number}"{words}>', 100,
                                    initial_indent=blanks, subsequent_indent=blanks + '  ',
                                    break_on_hyphens=False)
        self.depth += 1

    def close(self, n=1):
        for _ in range(n):
            self.depth -= 1
            self.lines.append('  ' * self.depth + '</object>')

    def place(self, kind, threads, nodes, index):
        cpus, mems = '0x%08x' % sum(1 << t for t in threads), '0x%08x' % sum(1 << n for n in nodes)
        top = {'allowed_cpuset': cpus, 'allowed_nodeset': mems} if kind == 'Machine' else {}
        self.open(kind, os_index=index, cpuset=cpus, complete_cpuset=cpus, nodeset=mems,
                  complete_nodeset=mems, **top)

    def package(self, index, cores, all_cores, smt):
        mine = range(index * cores, (index + 1) * cores)
        threads = [[c + k * all_cores for k in range(smt)] for c in mine]
        self.place('Package', sum(threads, []), [index], index)
        self.place('NUMANode', sum(threads, []), [index], index)
        self.close()
        for c, own in zip(mine, threads):
            self.place('Core', own, [index], c)
            for t in own:
                self.place('PU', [t], [index], t)
                self.close()
            self.close()

    def device(self, bus, kind, *names):
        self.open('PCIDev', pci_busid=f'0000:{bus:02x}:00.0', pci_type=f'{kind} [0000:0000] 00',
                  pci_link_speed='0.0')
        for name in names:
            self.open('OSDev', name=name, osdev_type=3 if name.startswith('mlx') else 2)
            self.close()
        self.close()

    def root(self, first, last):
        self.open('Bridge', bridge_type='0-1', depth=0,
                  bridge_pci=f'0000:[{first:02x}-{last:02x}]')

    def switch(self, above, bus):
        self.open('Bridge', bridge_type='1-1', depth=1,
                  bridge_pci=f'0000:[{bus:02x}-{bus + 15:02x}]',
                  pci_busid=f'0000:{above:02x}:{bus >> 4:02x}.0',
                  pci_type=f'{SWITCH} [0000:0000] 00', pci_link_speed='0.0')

    def write(self, name):
        head = ['<?xml version="1.0" encoding="UTF-8"?>',
                '<!DOCTYPE topology SYSTEM "hwloc2.dtd">', '<topology version="2.0">']
        path = pathlib.Path(__file__).parent / name
        path.write_text('\n'.join([*head, *self.lines, '</topology>', '']))


def switches():
    h, nic = Host(), 0
    h.place('Machine', range(32), [0, 1], 0)
    for package, root in enumerate((0x00, 0x80)):
        h.package(package, 8, 16, 2)
        h.root(root, root + 0x7f)
        for bus in (root + 0x10, root + 0x40):
            h.switch(root, bus)
            h.device(bus + 1, GPU)
            names = [f'ib{nic}', f'mlx5_{nic}']
            h.device(bus + 2, RDMA, *names[::-1 if nic % 2 else 1])
            h.device(bus + 3, GPU)
            h.close()
            nic += 1
        h.close(2)
    h.close()
    h.write('switches.xml')


def roots():
    h = Host()
    h.place('Machine', range(8), [0], 0)
    h.package(0, 8, 8, 1)
    for i in range(4):
        h.root(0x10 * i, 0x10 * i + 15)
        h.device(0x10 * i + 1, GPU)
        h.close()
    for i in range(2):
        h.root(0x80 + 0x10 * i, 0x8f + 0x10 * i)
        h.device(0x81 + 0x10 * i, RDMA, f'mlx5_{i}')
        h.close()
    h.root(0xf0, 0xff)
    h.device(0xf1, ETHERNET, 'eno1')
    h.close(3)
    h.write('roots.xml')


switches()
roots()
