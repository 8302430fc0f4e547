import { describe } from 'node:test'
import { recoveryWithClocks } from './other-clocks.ts'

describe('recovery with other clocks', () => recoveryWithClocks('behind'))
