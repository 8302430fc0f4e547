/**
 * What pg_basebackup wrote, read to its last byte and held against `backup_manifest`: which lies beside, or, in a tar that was
 * streamed, is its last file. No staging, and no more memory than one hash per file.
 */
import {
  type Bytes,
  counted,
  cutShort,
  type Findings,
  type FormatReader,
  type Member,
  malformed,
  type Scratch,
  type Siblings,
} from '../../reading.ts'
import { claimsTar, membersOf } from '../../tar.ts'
import { type Algorithm, digesting, usual } from './digest.ts'
import {
  type BackupManifest,
  lsnText,
  type ManifestFile,
  manifestName,
  readManifest,
  segmentsOf,
} from './manifest.ts'

const mostOfManifest = 256 << 20
const walName = /^(?:pg_wal\/)?([0-9A-F]{24})$/

/** A file of a tar. */
interface Seen {
  bytes: number
  digests: ReadonlyMap<Algorithm, string>
}

/** Read against the manifest at once, or kept until it comes. */
interface Round {
  manifest: BackupManifest | undefined
  seen: Map<string, Seen>
  wal: Map<string, number>
  bytes: number
  /** The first eight bytes of pg_control: whose data it is. */
  control?: Buffer
}

const firstName = (head: Buffer) => head.toString('utf8', 0, 100).replace(/\0.*$/s, '').replace(/^\.\//, '')

export const baseReader: FormatReader = {
  format: 'pgbasebackup-tar',
  title: 'PostgreSQL base backup, tar',
  claims: head => claimsTar(head) && firstName(head) === 'backup_label',
  read: (bytes, scratch) => readTar(bytes, scratch, ''),
}

/** Of these only one of ours is known as what it is. */
const unclaimed = () => false

export const tablespaceReader: FormatReader = {
  format: 'pgbasebackup-tablespace',
  title: 'PostgreSQL base backup, a tablespace',
  claims: unclaimed,
  read: (bytes, scratch) =>
    readTar(bytes, scratch, `pg_tblspc/${scratch.siblings?.name.replace(/\.tar$/, '') ?? ''}/`),
}

export const walReader: FormatReader = {
  format: 'pgbasebackup-wal',
  title: 'PostgreSQL base backup, its WAL',
  claims: unclaimed,
  async read(bytes, scratch) {
    const round: Round = { manifest: await besides(scratch), seen: new Map(), wal: new Map(), bytes: 0 }
    // Its other files are notes of the archiver, and histories.
    for await (const member of membersOf(bytes)) {
      if (walName.test(member.name)) await readMember(member, round, '')
    }
    const wal = round.manifest ? expectWal(round.manifest, round.wal) : 'no backup_manifest beside it'
    return { words: `${counted(round.wal.size, 'segment')}; ${wal}` }
  },
}

export const manifestReader: FormatReader = {
  format: 'pgbasebackup-manifest',
  title: 'PostgreSQL backup_manifest',
  claims: unclaimed,
  async read(bytes, { siblings }) {
    const pieces: Buffer[] = []
    for (let held = 0; ; ) {
      const piece = await bytes.next()
      if (piece === undefined) break
      held += piece.length
      if (held > mostOfManifest)
        throw malformed('It is larger than any backup_manifest', { offset: bytes.offset })
      pieces.push(Buffer.from(piece))
    }
    const { files } = readManifest(Buffer.concat(pieces))
    return {
      words: `${counted(files.size, 'file')}${siblings ? '' : ', not compared'}; its own checksum agrees`,
    }
  },
}

async function besides({ siblings }: Scratch): Promise<BackupManifest | undefined> {
  if (!siblings?.names.includes(manifestName)) return undefined
  return readManifest(await siblings.whole(manifestName))
}

async function readTar(bytes: Bytes, scratch: Scratch, prefix: string): Promise<Findings> {
  const round: Round = { manifest: await besides(scratch), seen: new Map(), wal: new Map(), bytes: 0 }
  for await (const member of membersOf(bytes)) await readMember(member, round, prefix)
  const { manifest } = round
  const words = `${counted(round.seen.size, 'file')}, ${round.bytes} bytes`
  if (!manifest) {
    // Ours have one, beside or inside.
    if (scratch.siblings) throw cutShort('There is no backup_manifest', { member: manifestName })
    return { words: `${words}; there is no backup_manifest to compare them with` }
  }
  expectAll(manifest, round.seen, prefix, scratch.siblings)
  expectOneServer(manifest, round.control)
  const wal =
    scratch.siblings?.names.includes('pg_wal.tar') || prefix !== ''
      ? ''
      : `; ${expectWal(manifest, round.wal)}`
  return { words: `${words}; every one as backup_manifest has it${wal}` }
}

async function readMember(member: Member, round: Round, prefix: string): Promise<void> {
  const { name } = member
  if (prefix === '' && name === manifestName) {
    const pieces: Buffer[] = []
    if (member.bytes > mostOfManifest)
      throw malformed('It is larger than any backup_manifest', { member: name })
    for await (const chunk of member.content) pieces.push(Buffer.from(chunk))
    round.manifest ??= readManifest(Buffer.concat(pieces))
    for (const [path, seen] of round.seen) expectFile(round.manifest, path, seen)
    return
  }
  const [, segment] = walName.exec(name) ?? []
  if (prefix === '' && segment !== undefined) {
    await readSegment(member, segment)
    round.wal.set(segment, member.bytes)
    return
  }
  // History files and notes of the archiver: not always named, and not looked at by pg_verifybackup either.
  if (prefix === '' && name.startsWith('pg_wal/')) return
  const path = `${prefix}${name}`
  if (round.seen.has(path)) throw malformed('A file is there twice', { member: path })
  const named = round.manifest?.files.get(path)?.algorithm
  const digest = digesting(round.manifest ? (named === undefined ? [] : [named]) : usual)
  let length = 0
  for await (const chunk of member.content) {
    if (path === 'global/pg_control' && length === 0) round.control = Buffer.from(chunk.subarray(0, 8))
    length += chunk.length
    digest.update(chunk)
  }
  const seen = { bytes: length, digests: digest.ended() }
  round.seen.set(path, seen)
  round.bytes += length
  if (round.manifest) expectFile(round.manifest, path, seen)
}

function expectFile({ files }: BackupManifest, path: string, seen: Seen): void {
  const named: ManifestFile | undefined = files.get(path)
  if (!named) throw malformed('backup_manifest does not name this file', { member: path })
  if (named.bytes !== seen.bytes) {
    throw malformed(`It has ${seen.bytes} bytes, and ${named.bytes} in backup_manifest`, { member: path })
  }
  // An unusual algorithm, in a backup of somebody else: then the length has to do.
  const digest = named.algorithm && seen.digests.get(named.algorithm)
  if (digest !== undefined && digest !== named.checksum) {
    throw malformed('Its bytes do not have the checksum that backup_manifest says', { member: path })
  }
}

const tablespaceOf = (path: string) => /^pg_tblspc\/(\d+)\//.exec(path)?.[1]

/** Every file that is to be in this tar is; what lies in a tablespace's own tar is looked for there. */
function expectAll(
  { files }: BackupManifest,
  seen: ReadonlyMap<string, Seen>,
  prefix: string,
  siblings: Siblings | undefined,
): void {
  for (const path of files.keys()) {
    if (path.startsWith('pg_wal/')) continue
    const oid = tablespaceOf(path)
    const isElsewhere =
      prefix === '' ? oid !== undefined && siblings?.names.includes(`${oid}.tar`) : !path.startsWith(prefix)
    if (!isElsewhere && !seen.has(path))
      throw cutShort('A file of backup_manifest is missing', { member: path })
  }
}

/** From version 2 of backup_manifest on it says whose it is; pg_control, in the byte order of the server, does so, too. */
function expectOneServer({ systemIdentifier }: BackupManifest, control: Buffer | undefined): void {
  if (systemIdentifier === undefined || control?.length !== 8) return
  const identifiers = [control.readBigUInt64LE(), control.readBigUInt64BE()].map(String)
  if (identifiers.includes(systemIdentifier)) return
  throw malformed(`It is of system ${identifiers[0]}, and backup_manifest of ${systemIdentifier}`, {
    member: 'global/pg_control',
  })
}

/** The first page of a segment says which one it is. */
async function readSegment(member: Member, segment: string): Promise<void> {
  const pieces: Buffer[] = []
  let held = 0
  for await (const chunk of member.content) {
    if (held < 40) pieces.push(Buffer.from(chunk.subarray(0, 40 - held)))
    held += chunk.length
  }
  const head = Buffer.concat(pieces)
  const place = { member: member.name }
  if (head.length < 40) throw cutShort('A WAL segment is cut', place)
  const little = head.readUInt32LE(32) === member.bytes
  const address = little ? head.readBigUInt64LE(8) : head.readBigUInt64BE(8)
  const bytes = little ? head.readUInt32LE(32) : head.readUInt32BE(32)
  if (bytes !== member.bytes) {
    throw malformed(`A WAL segment of ${member.bytes} bytes says that it has ${bytes}`, place)
  }
  const log = BigInt(`0x${segment.slice(8, 16)}`)
  const expected = (log << 32n) + BigInt(`0x${segment.slice(16)}`) * BigInt(bytes)
  if (address !== expected) {
    throw malformed(
      `A WAL segment begins at ${lsnText(address)}, and ${lsnText(expected)} by its name`,
      place,
    )
  }
}

function expectWal({ wal }: BackupManifest, there: ReadonlyMap<string, number>): string {
  const [segmentBytes] = there.values()
  for (const range of wal) {
    const words = `WAL ${lsnText(range.start)}-${lsnText(range.end)} of timeline ${range.timeline}`
    if (segmentBytes === undefined) throw cutShort(`There is nothing of ${words}`, {})
    for (const name of segmentsOf(range, segmentBytes)) {
      if (there.get(name) !== segmentBytes)
        throw cutShort(`Of ${words} a segment is missing`, { member: name })
    }
  }
  return wal
    .map(({ timeline, start, end }) => `WAL ${lsnText(start)}-${lsnText(end)} of timeline ${timeline}`)
    .join(', ')
}
