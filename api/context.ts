/** What the routes share. */
import type { Catalog } from '../catalog/open.ts'
import type { Host } from '../hosts/host.ts'
import type { Actor } from '../model/records.ts'
import type { Settings } from '../model/settings.ts'
import type { Json } from '../model/types.ts'
import type { ShellOn } from '../storage/index.ts'
import type { EventHub } from './event-hub.ts'
import type { Log } from './log.ts'
import type { Strangers } from './strangers.ts'
import type { TemporalAccess } from './temporal.ts'

export interface ApiContext {
  settings: Settings
  catalog: Catalog
  temporal: TemporalAccess
  log: Log
  /** This machine, for probes. Opened when it is first needed. */
  host(): Promise<Host>
  /** The same, or one over SSH, by its name. */
  hostNamed(name: string): Promise<Host>
  /** How directories of servers are reached. */
  shellOn: ShellOn
  /** Random id of this process: tells requests it took up from those of a predecessor that died. */
  process: string
  /** Operations that a request is starting right now: the reconciler leaves them alone. */
  starting: Set<string>
  /** For those who watch operations. */
  events: EventHub
  /** Refusals of requests without a valid credential. */
  strangers: Strangers
}

/** Per request. */
export interface ApiEnv {
  Variables: {
    /** Who asks; set for every route below /v1 that is not open to everybody. */
    actor: Actor
    /** Of a worker with the token of one host: that host. null: of one that serves all the others. */
    workerHost: string | null
    /** Where the request came from. */
    address: string
    /** It came over TLS. */
    secure: boolean
    /** More for the audit row of this request. Never a secret. */
    auditDetail: Record<string, Json>
    /** Of this change, once it may begin: its id in the audit, and what of the request is kept. */
    begunEntry: { id: string; detail: Record<string, Json> } | null
    /** The answer holds a secret that is shown once: it is not kept for a repeated request. */
    secretAnswer: boolean
    /** Names this request on the rows it makes; null without an Idempotency-Key. */
    requestKey: string | null
  }
}
