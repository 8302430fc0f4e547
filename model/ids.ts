/**
 * Identifiers. Random bytes are passed in, so that this file stays pure and workflows may import it.
 */

/** Names of connections, destinations and keys: immutable slugs, safe in object keys, file names and argv. */
export const slugPattern = /^[a-z0-9][a-z0-9-]{0,62}$/

const alphabet = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'

/** Maps random bytes to letters and digits that are told apart when read aloud (no 0 O I l). */
export function readable(random: Uint8Array): string {
  return Array.from(random, byte => alphabet[byte % alphabet.length]).join('')
}

/** `20261121T031400Z-full-9f3kq2`: sorts by time; `random` must hold at least 4 bytes. */
export function backupIdFor(at: Date, type: string, random: Uint8Array): string {
  const stamp = at.toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '')
  return `${stamp}-${type}-${readable(random).toLowerCase()}`
}

export const backupIdPattern = /^\d{8}T\d{6}Z-[a-z]+-[a-z0-9]{4,16}$/

/** Temporal's task queue of every worker. */
export const taskQueue = 'holdfast'
/** That of the workers which share one staging directory. */
export const machineQueue = (machineId: string): string => `${taskQueue}/${machineId}`

/** That of the workers of a host that has its own; from the host's random id, so that another host of its name has another. */
export const hostQueue = (workerId: string): string => `${taskQueue}/host/${workerId}`

/** Of a worker, as Temporal shows it: its process, and the queue of its machine. */
export const workerIdentity = (process: string, queue: string): string => `${process} ${queue}`
export const machineOf = (identity: string): string | undefined => {
  const queue = identity.split(' ')[1]
  return queue?.startsWith(`${taskQueue}/`) ? queue : undefined
}

/** Workflow ids are locks: one running workflow per id. Holders: backups and the executing part of a restore. */
export const serverLock = (serverIdentity: string): string => `op/${serverIdentity}`
/** A restore that plans and waits for its approval holds no lock. */
export const requestWorkflowId = (operationId: string): string => `request/${operationId}`
/** Removes what a swap has kept, when its time is over. */
export const retireWorkflowId = (operationId: string): string => `retire/${operationId}`
/** Ends what a swap that was ended from outside has begun. */
export const takeBackWorkflowId = (operationId: string): string => `take-back/${operationId}`
/** A drill uses nobody's server but its own copy there; of one connection there is one at a time. */
export const drillWorkflowId = (connection: string): string => `drill/${connection}`
/** Removes what a drill that was ended from outside has left. */
export const tearDownWorkflowId = (operationId: string): string => `tear-down/${operationId}`
/** A recovery makes a server of its own, and touches no other: it takes no lock. */
export const pitrWorkflowId = (operationId: string): string => `pitr/${operationId}`
/** Verifying takes no lock: its workflow id is its own. */
export const verifyWorkflowId = (operationId: string): string => `verify/${operationId}`
/** Nor does copying; but two of the same backup to the same place would do the same. */
export const copyWorkflowId = (backupId: string, destination: string): string =>
  `copy/${backupId}/${destination}`
/** Neither does a dry run. */
export const dryRunWorkflowId = (operationId: string): string => `dry-run/${operationId}`
/** Of one destination one at a time: two would read the same backups. */
export const scrubWorkflowId = (destination: string | null): string =>
  destination === null ? 'scrub' : `scrub/${destination}`
/** The same of sweeping: two would remove the same. */
export const sweepWorkflowId = (destination: string | null): string =>
  destination === null ? 'sweep' : `sweep/${destination}`
/** Of one destination one at a time: it knows what is where. */
export const tieringWorkflowId = (destination: string): string => `tiering/${destination}`
/** Of one server one at a time. It holds up nothing else of that server, however long it waits for its restart. */
export const enablePitrWorkflowId = (serverIdentity: string): string => `enable-pitr/${serverIdentity}`
/** Of one connection one at a time: its archive goes by its name. It runs beside whatever else is done with the server. */
export const logsWorkflowId = (connection: string): string => `logs/${connection}`
/** One rotation at a time: of two that cross, neither could say what is left. */
export const rotationWorkflowId = 'keys/rotate'
