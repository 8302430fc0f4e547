/** What the routes share. */
import type { Catalog } from '../catalog/open.ts'
import type { Host } from '../hosts/host.ts'
import type { Settings } from '../model/settings.ts'
import type { Log } from './log.ts'
import type { TemporalAccess } from './temporal.ts'

export interface ApiContext {
  settings: Settings
  catalog: Catalog
  temporal: TemporalAccess
  log: Log
  /** This machine, for probes. Opened when it is first needed. */
  host(): Promise<Host>
  /** Random id of this process: tells requests it took up from those of a predecessor that died. */
  process: string
  /** Operations that a request is starting right now: the reconciler leaves them alone. */
  starting: Set<string>
}

/** Per request. */
export interface ApiEnv {
  Variables: {
    /** Names this request on the rows it makes; null without an Idempotency-Key. */
    requestKey: string | null
  }
}
