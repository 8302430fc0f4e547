/**
 * The destination seam: an object store. One folder per kind, one conformance suite for all.
 * Keys are relative to the destination's prefix, '/'-separated, no leading slash, no '.' or '..' segments.
 * Every method throws HoldfastError with a `destination.*` code; transient ones may be retried by the caller.
 */
import type { Readable } from 'node:stream'
import type { DestinationKind } from '../model/types.ts'

export interface ObjectStat {
  key: string
  bytes: number
  modifiedAt: Date
  /** Version id in versioned stores. */
  version?: string
  /** The store's own opaque tag. */
  tag?: string
  /** From `stat`, where the store has such things and lets us see them: */
  protection?: Protection
  /** The store's own name of the class or tier that the object is in. From `stat`. */
  storageClass?: string
  /** Of one in an archive that cannot be read as it is; `thawing`: it was asked for, and is on its way. */
  frozen?: 'archived' | 'thawing'
  /** It was brought back from an archive not long ago, or is readable because it was. From `stat`. */
  thawed?: true
}

/** What keeps an object from being removed. */
export interface Protection {
  /** Not before. */
  lockedUntil?: Date
  /** Not until somebody lifts it. */
  legalHold?: boolean
}

export interface Capabilities {
  /** `put` and `complete` with `ifAbsent` are decided by the store, atomically. */
  conditionalPut: boolean
  /** All parts but the last must have the same size. */
  equalParts: boolean
  /**
   * Parts are sent one after the other from the first on, and all of them again by whoever goes on with an upload: the
   * store knows how many bytes it has, does not take them twice, and lists no parts.
   */
  sequentialParts: boolean
  minPartBytes: number
  maxPartBytes: number
  maxParts: number
  /** How many ranges of one object are worth reading side by side. */
  readsAtOnce: number
  /** The store verifies each part's checksum before it keeps it. */
  verifiesParts: boolean
  /** Objects can be locked until a date and put under legal hold: `lasting` ones are, where the destination says so. */
  objectLock: boolean
}

/** For whom an object is put. */
export interface PutOptions extends CallOptions {
  /** Throws `destination.exists` when it is there already. */
  ifAbsent?: boolean
  /** Part of a backup: locked as the destination says. What is uploaded by parts always is. */
  lasting?: boolean
}

export interface PartInfo {
  /** From 1. */
  number: number
  bytes: number
  /** What the store calls this part; given back in `complete`. */
  tag: string
  /** Of `putPart` with `sequentialParts`: bytes that the store had already and was not sent. */
  thereBefore?: number
  /** Hex SHA-256 of the part if the store (or our own record beside it) knows it. */
  sha256?: string
}

export interface OutgoingPart {
  number: number
  /** Where it begins in the object. */
  offset: number
  body: Uint8Array
  /** Hex. */
  sha256?: string
}

export interface OpenUpload {
  key: string
  uploadId: string
  startedAt: Date
}

export interface CallOptions {
  signal?: AbortSignal
}

/** Of stores that keep objects in classes: dear to keep and cheap to read, or the other way round. */
export interface StorageClasses {
  /** Objects in this one have to be brought back before they can be read. */
  isArchive(storageClass: string): boolean
  /** How long bringing back an object of this class usually takes. */
  thawHours(storageClass: string): number
  /**
   * Asks for an archived object to become readable, for so many days where the store gives a copy. Returns at once; see
   * `frozen`. Asking again changes nothing. Throws `destination.object-missing`.
   */
  thaw(key: string, days: number, options?: CallOptions): Promise<void>
}

export interface Destination {
  readonly kind: DestinationKind
  /** Canonical URI without credentials, e.g. `s3://bucket/prefix`, `file:///var/backups`. */
  readonly uri: string
  readonly capabilities: Capabilities
  /** Absent: it has none. */
  readonly classes?: StorageClasses

  /** A small object (≤ 16 MiB), whole or not at all, durable on return. */
  put(key: string, body: Uint8Array, options?: PutOptions): Promise<ObjectStat>
  /** Whole small object; undefined when it is not there. Refuses objects over 16 MiB. */
  read(key: string, options?: CallOptions): Promise<Uint8Array | undefined>
  /** Streams a range (to the end when `length` is absent). Throws `destination.object-missing`. A cut connection
   * surfaces as an error of the stream, never as a short success. */
  get(key: string, options?: CallOptions & { offset?: number; length?: number }): Promise<Readable>
  stat(key: string, options?: CallOptions): Promise<ObjectStat | undefined>
  /** Every object below the prefix, in key order, page by page. */
  list(prefix: string, options?: CallOptions): AsyncIterable<ObjectStat>
  /**
   * Removing what is not there succeeds. In versioned stores all versions of exactly this key go (unless `version`).
   * Throws `destination.locked`, with the date in its context where the store tells it.
   */
  remove(key: string, options?: CallOptions & { version?: string }): Promise<void>

  /**
   * Moves an object into another class of the store; it is whole under its key all the time. Asked again it changes nothing, but
   * finishes what was begun. Absent: there are no classes. Throws `destination.object-missing`, `.archived`, `.locked`.
   */
  move?(key: string, storageClass: string, options?: CallOptions): Promise<void>

  /** Begins an upload by parts. Nothing is visible under `key` until `completeUpload`. */
  openUpload(key: string, options?: CallOptions): Promise<string>
  /**
   * Sends one part (any order, in parallel, repeatable: the last one wins; not so with `sequentialParts`).
   * `sha256` may be left out where the store does not verify parts and the upload will not be resumed.
   * Throws `destination.upload-gone` if the upload was aborted or completed.
   */
  putPart(key: string, uploadId: string, part: OutgoingPart, options?: CallOptions): Promise<PartInfo>
  /** Parts the store has; undefined if the upload is gone. */
  listParts(key: string, uploadId: string, options?: CallOptions): Promise<PartInfo[] | undefined>
  /** Joins the parts into the object, durable on return. */
  completeUpload(
    key: string,
    uploadId: string,
    parts: readonly PartInfo[],
    options?: CallOptions,
  ): Promise<ObjectStat>
  /** Idempotent. Leaves nothing. */
  abortUpload(key: string, uploadId: string, options?: CallOptions): Promise<void>
  /** Uploads that are open below the prefix, for sweeps and cleanup. */
  listUploads(prefix: string, options?: CallOptions): AsyncIterable<OpenUpload>

  /**
   * Writes, reads back, lists and deletes under `.holdfast-precheck/`; throws naming the missing permission. Answers what
   * is worth knowing of the place, in sentences.
   */
  check(options?: CallOptions): Promise<string[]>
  close(): Promise<void>
}
