/** The registry of destinations: one line per kind for what people may type, one for opening it. */
import { fileURLToPath } from 'node:url'
import { HoldfastError } from '../model/errors.ts'
import type { DestinationRecord } from '../model/records.ts'
import type { DestinationKind } from '../model/types.ts'
import { azureForm, readAzureSettings } from './azure/form.ts'
import type { Destination } from './destination.ts'
import { gcsForm, readGcsSettings } from './gcs/form.ts'
import { type DestinationExtras, invalidUri, type KindForm, type Place } from './kind.ts'
import { localForm } from './local/form.ts'
import { openLocalDestination } from './local/index.ts'
import { readS3Settings, s3Form } from './s3/form.ts'
import { hostAndDirectory, serverForm } from './server/form.ts'
import { openServerDestination, openServerDestinationHere } from './server/index.ts'
import type { ServerShell } from './server/shell.ts'
import { usualSilenceSeconds } from './silence.ts'

export { type DestinationExtras, placeNames, splitExtras } from './kind.ts'

const forms: Record<DestinationKind, KindForm> = {
  local: localForm,
  server: serverForm,
  s3: s3Form,
  gcs: gcsForm,
  azure: azureForm,
}

export interface ParsedDestination extends Place {
  kind: DestinationKind
}

/** A shell on the host of this name. Throws `request.not-found`. */
export type ShellOn = (host: string) => Promise<ServerShell>

/**
 * Opens the destination; touches nothing yet. `secrets` by field, none: the credentials of the environment, as the store's
 * own tools find them. A store over a network that is silent for `silenceSeconds` is given up.
 * `shellOn`: for directories of servers; without it only those of this machine can be opened. The caller closes it. Throws
 * `request.invalid`.
 */
export async function openDestination(
  record: DestinationRecord,
  secrets: Record<string, string>,
  {
    silenceSeconds = usualSilenceSeconds,
    shellOn,
  }: { silenceSeconds?: number | undefined; shellOn?: ShellOn } = {},
): Promise<Destination> {
  checkDestinationSecrets(record.kind, secrets)
  const { uri } = parseDestinationUri(record.uri, record.settings as DestinationExtras)
  // SDKs are large: who keeps backups in a directory does without them.
  switch (record.kind) {
    case 'local':
      return openLocalDestination(uri)
    case 'server':
      return await openServer(uri, shellOn)
    case 's3': {
      const { openS3Destination } = await import('./s3/index.ts')
      return openS3Destination(uri, readS3Settings(record.settings), secrets, silenceSeconds)
    }
    case 'gcs': {
      const { openGcsDestination } = await import('./gcs/index.ts')
      return openGcsDestination(uri, readGcsSettings(record.settings), secrets, silenceSeconds)
    }
    case 'azure': {
      const { openAzureDestination } = await import('./azure/index.ts')
      return openAzureDestination(uri, readAzureSettings(record.settings), secrets, silenceSeconds)
    }
  }
}

async function openServer(uri: string, shellOn: ShellOn | undefined): Promise<Destination> {
  const { host, directory } = hostAndDirectory(uri)
  if (host === 'local') return openServerDestinationHere(uri)
  if (shellOn) return openServerDestination(uri, await shellOn(host))
  throw new HoldfastError('request.invalid', `${uri} is on host ${host}, which is not known here.`, {
    hint: `On that machine it is ${directory}`,
  })
}

/** The directory that a destination is, and its host (`local`: the machine that works); undefined where it is none. */
export function placeOfDestination({
  kind,
  uri,
}: {
  kind: DestinationKind
  uri: string
}): { host: string; directory: string } | undefined {
  if (kind === 'local') return { host: 'local', directory: fileURLToPath(uri) }
  if (kind !== 'server') return undefined
  const { host, directory } = hostAndDirectory(uri)
  return { host, directory: fileURLToPath(directory) }
}

/** The host that a destination is on, by its name; undefined where it is on none. */
export const hostOfDestination = (destination: { kind: DestinationKind; uri: string }): string | undefined =>
  destination.kind === 'server' ? placeOfDestination(destination)?.host : undefined

/**
 * Reads what a person types: `file:///dir`, an absolute path, `server://host/dir`, `s3://bucket/prefix`, `gcs://…`, `azure://…`. Credentials
 * that name their place (a connection string does) need not be told it again. Throws `request.invalid` saying why.
 */
export function parseDestinationUri(
  text: string,
  extras: DestinationExtras = {},
  secrets: Record<string, string> = {},
): ParsedDestination {
  const { form, scheme, rest } = formFor(text)
  const said = Object.fromEntries(Object.entries(extras).filter(([, value]) => value !== undefined))
  return { kind: form.kind, ...form.parse(scheme, rest, { ...form.placeIn?.(secrets), ...said }) }
}

/** Which kind a person means by what they type. Throws `request.invalid`. */
export const kindOfUri = (text: string): DestinationKind => formFor(text).form.kind

function formFor(text: string): { form: KindForm; scheme: string; rest: string } {
  if (/\p{Cc}/u.test(text)) invalidUri('it holds control characters')
  const match = /^([A-Za-z][A-Za-z0-9+._-]*):(.*)$/.exec(text)
  const [, typed = 'path', rest = text] = match ?? []
  const scheme = typed.toLowerCase()
  const form = Object.values(forms).find(one => one.schemes.includes(scheme))
  if (form) return { form, scheme, rest }
  const all = Object.values(forms).flatMap(one => one.schemes)
  return invalidUri(`"${typed}:" is not one of ${all.join(', ')}`)
}

/** Throws `request.invalid`, naming the field, for credentials that such a store cannot have given. */
export function checkDestinationSecrets(kind: DestinationKind, secrets: Record<string, string>): void {
  expectSecretFields(kind, Object.keys(secrets))
  forms[kind].checkSecrets(secrets)
}

/** Throws `request.invalid`, naming the first field that this kind has no use for. */
export function expectSecretFields(kind: DestinationKind, fields: readonly string[]): void {
  const { secretFields, title } = forms[kind]
  const odd = fields.find(field => !secretFields.includes(field))
  if (odd === undefined) return
  throw new HoldfastError('request.invalid', `The ${odd} has no meaning for ${title}.`, {
    context: { field: odd },
  })
}
