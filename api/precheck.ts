/**
 * Is a connection ready for a backup? Every question at once, as one table: of the host its tools run on, of the database,
 * of where backups would go, and of the keys. What fails is a row of it, never the answer's end. Nothing is changed on the
 * server; what is written to find out (a file in staging, an object in a destination) is removed at once.
 */
import {
  attempt,
  directoryChecks,
  failedBy,
  onlyWaits,
  roomCheck,
  stagedBytes,
  toolChecks,
} from '../activities/checks.ts'
import { hostChecks } from '../activities/host-checks.ts'
import { connectionSecrets, type StoredConnection } from '../catalog/connections.ts'
import { wrapForNames } from '../catalog/data-keys.ts'
import { listDestinations, type StoredDestination } from '../catalog/destinations.ts'
import { findHost, hostWorkerOf } from '../catalog/hosts.ts'
import { stagingRoom } from '../catalog/staging.ts'
import type { Method, ServerFacts } from '../engines/engine.ts'
import { engineOf } from '../engines/index.ts'
import type { Host } from '../hosts/host.ts'
import type { PrecheckInput } from '../model/inputs.ts'
import { homePaths } from '../model/settings.ts'
import type { CheckResult } from '../model/types.ts'
import type { ApiContext } from './context.ts'
import { probeConnection } from './probe.ts'
import { recipientsOf } from './recipients.ts'
import { defaultJobs, destinationsOf, encryptToOf, toolFormatOf } from './routes/backups.ts'
import { withDestination } from './routes/destinations.ts'
import { hostChecksOf } from './routes/hosts.ts'

export interface Readiness {
  /** null: it could not be asked. */
  facts: ServerFacts | null
  checks: CheckResult[]
}

export async function precheck(
  context: ApiContext,
  connection: StoredConnection,
  request: PrecheckInput,
): Promise<Readiness> {
  const { method, toolFormat } = toolFormatOf(connection, request.format)
  const destinations = await meant(context, request.destinations)
  const ofHost = await hostRows(context, connection.host)
  const reached = ofHost.every(check => check.answer !== 'fail')
  // The worker that lives on a host answers what is asked of it; what a plan needs there it sees when the plan runs.
  const host = (await hostWorkerOf(context.catalog, connection.host))
    ? undefined
    : await context.hostNamed(connection.host)
  const database = reached ? await askDatabase(context, connection) : { facts: null, checks: [] }
  const { facts } = database
  return {
    facts,
    checks: [
      ...ofHost,
      ...database.checks,
      ...(facts === null ? [] : await planChecks(context, host, connection, method, toolFormat, facts)),
      ...(await destinationChecks(context, host, destinations, facts)),
      ...(await keyChecks(context, destinations, request.encryptTo)),
    ],
  }
}

async function hostRows(context: ApiContext, name: string): Promise<CheckResult[]> {
  const title = 'The host can be logged in to'
  const known = await findHost(context.catalog, name)
  if (known === undefined) return await hostChecks(() => context.hostNamed(name), title)
  try {
    return await hostChecksOf(context, known)
  } catch (error) {
    return [failedBy({ id: 'host.login', title }, error)]
  }
}

/** As a backup would: those that are named, else the only one there is. */
async function meant(
  context: ApiContext,
  names: readonly string[] | undefined,
): Promise<StoredDestination[]> {
  if (names !== undefined) return await destinationsOf(context, names)
  const all = await listDestinations(context.catalog)
  return all.length === 1 ? all : []
}

async function askDatabase(context: ApiContext, connection: StoredConnection): Promise<Readiness> {
  const base = { id: 'database.connect', title: 'The database answers' }
  try {
    const secrets = await connectionSecrets(context.catalog, connection.name)
    const facts = await probeConnection(context, connection, secrets)
    const detail = `${connection.address}, version ${facts.version}`
    return { facts, checks: [{ ...base, answer: 'pass', detail }, sameServer(connection, facts)] }
  } catch (error) {
    return { facts: null, checks: [failedBy(base, error)] }
  }
}

const sameServer = ({ serverIdentity }: StoredConnection, { identity }: ServerFacts): CheckResult =>
  identity === serverIdentity
    ? { id: 'identity', title: 'Same server', answer: 'pass', detail: 'It is the server that was added.' }
    : {
        id: 'identity',
        title: 'Same server',
        answer: 'fail',
        detail: `It calls itself ${identity}; added was ${serverIdentity}.`,
        hint: 'If the change is meant, remove and add the connection again.',
        code: 'database.changed',
      }

/** What the engine asks, and what the backup that it would plan needs of the host. */
async function planChecks(
  { catalog }: ApiContext,
  host: Host | undefined,
  connection: StoredConnection,
  method: Method,
  toolFormat: string,
  facts: ServerFacts,
): Promise<CheckResult[]> {
  const settings = engineOf(connection.engine).connection.parse(connection.settings)
  const asked = { connection: connection.name, type: 'full', toolFormat, jobs: defaultJobs() } as const
  const checks = method.checks(settings, asked, facts)
  if (host === undefined) return checks
  const plan = method.planBackup(settings, asked, facts)
  const staged = stagedBytes(plan, facts)
  return [
    ...checks,
    ...(await toolChecks(host, plan.steps)),
    ...(staged === 0
      ? []
      : [onlyWaits(await roomCheck(host, { bytes: staged }, found => stagingRoom(catalog, found)))]),
  ]
}

async function destinationChecks(
  context: ApiContext,
  host: Host | undefined,
  destinations: readonly StoredDestination[],
  facts: ServerFacts | null,
): Promise<CheckResult[]> {
  const checks: CheckResult[] = []
  const here = await context.hostNamed('local')
  for (const { name } of destinations) {
    const ofDirectory: CheckResult[] = []
    checks.push(
      await attempt(`destination-${name}`, `Destination "${name}" takes and gives back objects`, () =>
        withDestination(context, name, async opened => {
          const notes = await opened.check()
          if (facts !== null)
            ofDirectory.push(...(await directoryChecks({ tools: host, here }, opened, facts)))
          return [opened.uri, ...notes].join('. ')
        }),
      ),
      ...ofDirectory,
    )
  }
  return checks
}

/** A backup's data key is encrypted for each of them, and here it is tried. */
async function keyChecks(
  context: ApiContext,
  destinations: readonly StoredDestination[],
  asked: readonly string[] | undefined,
): Promise<CheckResult[]> {
  const { catalog, settings } = context
  const check = await attempt('keys', 'Encryption keys are at hand', async () => {
    const said = destinations.length === 0 ? undefined : encryptToOf(destinations)
    const names = await recipientsOf(context, asked ?? said)
    if (names.length === 0) return 'Backups there are not encrypted, as was asked for.'
    await wrapForNames(catalog, homePaths(settings.home).keys, Buffer.alloc(32), names)
    return names.join(', ')
  })
  return [check]
}
