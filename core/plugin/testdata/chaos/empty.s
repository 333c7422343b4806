// A function without a body wants an assembly file in its package.
