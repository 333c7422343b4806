package balance

import (
	"encoding/binary"
	"math/bits"
)

// secret is wyhash's default secret.
var secret = [4]uint64{0x2d358dccaa6c78a5, 0x8bb84b93962eacc9, 0x4b33a62ed433d4a3, 0x4d5a2da51de1aa47}

// Hash is wyhash, final version 4.2: fast, of good quality, and the same in every process, so that gateways that
// share nothing agree. It is no protection against whoever looks for collisions.
func Hash(p []byte, seed uint64) uint64 {
	n := uint64(len(p))
	seed ^= mix(seed^secret[0], secret[1])
	var a, b uint64
	if len(p) <= 16 {
		a, b = ends(p)
	} else {
		last := p[len(p)-16:]
		if len(p) >= 48 {
			p, seed = lanes(p, seed)
		}
		for ; len(p) > 16; p = p[16:] {
			seed = mix(word(p)^secret[1], word(p[8:])^seed)
		}
		a, b = word(last), word(last[8:])
	}
	b, a = bits.Mul64(a^secret[1], b^seed)
	return mix(a^secret[0]^n, b^secret[1])
}

// lanes hashes all of p that fills rounds of 48 bytes and returns the rest.
func lanes(p []byte, seed uint64) ([]byte, uint64) {
	one, two := seed, seed
	for ; len(p) >= 48; p = p[48:] {
		q := p[:48:48]
		seed = mix(word(q)^secret[1], word(q[8:])^seed)
		one = mix(word(q[16:])^secret[2], word(q[24:])^one)
		two = mix(word(q[32:])^secret[3], word(q[40:])^two)
	}
	return p, seed ^ one ^ two
}

// ends reads up to 16 bytes into two words.
func ends(p []byte) (a, b uint64) {
	n := len(p)
	switch {
	case n >= 4:
		half := n >> 3 << 2
		a = uint64(binary.LittleEndian.Uint32(p))<<32 | uint64(binary.LittleEndian.Uint32(p[half:]))
		b = uint64(binary.LittleEndian.Uint32(p[n-4:]))<<32 | uint64(binary.LittleEndian.Uint32(p[n-4-half:]))
	case n > 0:
		a = uint64(p[0])<<16 | uint64(p[n>>1])<<8 | uint64(p[n-1])
	}
	return a, b
}

func word(p []byte) uint64 { return binary.LittleEndian.Uint64(p) }

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// BlockBytes is the length of a block in bytes: some 64 tokens.
const BlockBytes = 256

// MaxBlocks bounds a chain: what lies further back in a prompt decides nothing any more.
const MaxBlocks = 2048

// A Chain turns a prompt into the hashes of its blocks, each of which stands for all that comes before it, too.
// The last block counts when it is full. Reset it before use.
type Chain struct {
	Blocks []uint64
	Bytes  int64 // written so far
	sum    uint64
	fill   int
	carry  [BlockBytes]byte
}

// Reset begins the prompt of another call, keeping memory. Chains of different seeds have no block in common.
func (c *Chain) Reset(seed uint64) {
	c.Blocks, c.Bytes, c.sum, c.fill = c.Blocks[:0], 0, seed, 0
}

// Write adds the next bytes of the prompt.
func (c *Chain) Write(p []byte) {
	c.Bytes += int64(len(p))
	if c.fill > 0 {
		n := copy(c.carry[c.fill:], p)
		c.fill, p = c.fill+n, p[n:]
		if c.fill < BlockBytes {
			return
		}
		c.fill = 0
		c.add(c.carry[:])
	}
	for len(p) >= BlockBytes && len(c.Blocks) < MaxBlocks {
		c.add(p[:BlockBytes])
		p = p[BlockBytes:]
	}
	if len(c.Blocks) < MaxBlocks {
		c.fill = copy(c.carry[:], p)
	}
}

// add hashes a block by itself and folds it into the chain, so that the processor works on several blocks at once.
func (c *Chain) add(block []byte) {
	if len(c.Blocks) == MaxBlocks {
		return
	}
	c.sum = (bits.RotateLeft64(c.sum, 23) ^ Hash(block, 0)) * 0x9e3779b97f4a7c15
	c.sum ^= c.sum >> 32
	c.Blocks = append(c.Blocks, c.sum)
}
