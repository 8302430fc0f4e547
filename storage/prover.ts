/** Stored bytes in, proven bytes out: what is sealed is opened, and all is hashed as it was stored. */
import { createHash } from 'node:crypto'
import { letGo } from '../model/let-go.ts'
import { createOpener } from './tink.ts'

export interface Seal {
  dataKey: Uint8Array
  associatedData: string
  /** For words. */
  what: string
}

export interface Prover {
  /** What became complete; of sealed bytes only what is authenticated. The chunk is no longer the caller's. */
  update(chunk: Buffer): Buffer[]
  /** `last`: what may be given out once the hash was compared. */
  final(): { last: Buffer[]; sha256: string }
}

/** Throws as `createOpener` does. `seal`: null for bytes that are not sealed. */
export function createProver(seal: Seal | null): Prover {
  const hash = createHash('sha256')
  const opener = seal && createOpener(seal.dataKey, seal.associatedData, seal.what)
  return {
    update(chunk) {
      hash.update(chunk)
      if (opener === null) return [chunk]
      const opened = opener.update(chunk)
      letGo(chunk)
      return opened
    },
    final() {
      const last = opener?.final() ?? []
      return { last, sha256: hash.digest('hex') }
    },
  }
}
