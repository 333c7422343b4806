package sandbox

// Opcodes that the meter treats in a way of their own, or emits.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opSelect       = 0x1b
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableGet     = 0x25
	opTableSet     = 0x26
	opLoadFirst    = 0x28
	opStoreLast    = 0x3e
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32And       = 0x71
	opI32LtU       = 0x49
	opI32GtU       = 0x4b
	opI32LeU       = 0x4d
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI32Or        = 0x72
	opI64LtS       = 0x53
	opI64GtU       = 0x56
	opI64GeS       = 0x59
	opI64Add       = 0x7c
	opI64Sub       = 0x7d
	opI64Or        = 0x84
	opI64Shl       = 0x86
	opI64ShrU      = 0x88
	opI64ExtendU   = 0xad
	opRefNull      = 0xd0
	opRefFunc      = 0xd2
	opMisc         = 0xfc
	opVector       = 0xfd

	blockEmpty = 0x40 // the type of a block that takes and gives nothing
)

// Opcodes behind the prefix 0xfc.
const (
	miscMemoryInit = 8
	miscDataDrop   = 9
	miscMemoryCopy = 10
	miscMemoryFill = 11
	miscTableInit  = 12
	miscElemDrop   = 13
	miscTableCopy  = 14
	miscTableGrow  = 15
	miscTableSize  = 16
	miscTableFill  = 17
)

// Opcodes behind the prefix 0xfd.
const (
	vecStore     = 11
	vecConst     = 12
	vecShuffle   = 13
	vecLaneFirst = 21
	vecLaneLast  = 34
	vecLoadLane  = 84
	vecStoreLane = 91
	vecLoadZero  = 93 // the last of two
)

// plain reports whether an opcode stands alone, with nothing behind it.
func plain(op byte) bool {
	switch {
	case op <= 0x01, op == opReturn, op == 0x1a, op == 0x1b: // unreachable, nop, return, drop, select
		return true
	case op >= 0x45 && op <= 0xc4, op == 0xd1: // comparisons to sign extension, ref.is_null
		return true
	}
	return false
}

// unsupported names the proposals that the sandbox refuses, by the opcodes that give them away.
func unsupported(op byte) string {
	switch op {
	case 0x06, 0x07, 0x08, 0x09, 0x0a, 0x18, 0x19, 0x1f:
		return "exception handling"
	case 0x12, 0x13:
		return "tail calls"
	case 0x14, 0x15, 0xd3, 0xd4, 0xd5, 0xd6:
		return "typed function references"
	case 0xfb:
		return "garbage collection"
	case 0xfe:
		return "threads"
	}
	return "not part of WebAssembly 2.0"
}

// Costs in units of fuel. A unit is about one instruction; what the hardware or the host does for longer costs more.
const (
	costCall     = 8
	costHostCall = 64
	costDivide   = 4
	costBulk     = 16
)

// cost is what one instruction is charged, apart from what bulk operations pay by length.
func cost(op byte) int64 {
	switch op {
	case 0x01, opBlock, opLoop, opElse, opEnd, 0x1a: // no code is made for these
		return 0
	case opCall, opCallIndirect:
		return costCall
	case 0x6d, 0x6e, 0x6f, 0x70, 0x7f, 0x80, 0x81, 0x82, 0x91, 0x95, 0x9f, 0xa3: // div, rem, sqrt
		return costDivide
	case opMisc, opMemoryGrow:
		return costBulk
	case opRefFunc: // wazero leaves the guest's code for it
		return costHostCall
	}
	return 1
}
