import { describe } from 'node:test'
import { recoveryWithClocks } from './other-clocks.ts'

describe('recovery with clocks the other way', () => recoveryWithClocks('ahead'))
