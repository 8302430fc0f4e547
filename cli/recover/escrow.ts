/** Whether a copy of a key file opens what lies in a destination: shown by opening the beginning of each backup with it. */
import { HoldfastError } from '../../model/errors.ts'
import { openBytes } from './bytes.ts'
import { type FoundBackup, findBackups, openFound, type Source } from './source.ts'

export interface EscrowAnswer {
  connection: string
  backup: string
  encrypted: boolean
  opens: boolean
  /** Why it does not. */
  code: string | null
  detail: string | null
}

/** Backups in the order in which they were made; `all` false: only the newest of each connection. */
export async function* checkEscrow(
  source: Source,
  options: { all: boolean; signal: AbortSignal },
): AsyncGenerator<EscrowAnswer> {
  const found = (await findBackups(source)).filter(one => one.state === 'committed')
  const newest = new Map(found.map(one => [one.connection, one.backupId]))
  for (const one of found) {
    if (options.all || newest.get(one.connection) === one.backupId)
      yield await tried(source, one, options.signal)
  }
}

async function tried(source: Source, found: FoundBackup, signal: AbortSignal): Promise<EscrowAnswer> {
  const { connection, backupId, manifest } = found
  const about = {
    connection,
    backup: backupId,
    encrypted: manifest?.artifacts.some(artifact => artifact.encryption !== null) ?? false,
  }
  try {
    const backup = await openFound(source, found)
    for (const entry of backup.manifest.artifacts) {
      const stream = await openBytes(source, backup, entry, { signal, onProgress: () => {} })
      // The first bytes come only after the first segment was authenticated with the data key.
      for await (const _ of stream) break
    }
    return { ...about, opens: true, code: null, detail: null }
  } catch (error) {
    if (signal.aborted || !(error instanceof HoldfastError)) throw error
    if (error.code === 'key.passphrase-wrong') throw error
    return { ...about, opens: false, code: error.code, detail: error.message }
  }
}
