"""The virtual machine: its command line, its life, its devices, and the daemons behind them.

`config` says what a machine shall be, `qemu_command` turns that into QEMU's arguments, `qemu.Vm`
runs it. Everything a machine starts is a child that dies with the process that started it.
"""
