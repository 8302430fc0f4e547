/** What a key management service does for us. */
export interface Kms {
  /** Throws `key.kms-denied`, `key.kms-unreachable`, `key.kms-unusable`. */
  encrypt(plain: Uint8Array): Promise<Uint8Array>
  /** The same, and `artifact.corrupted` for what this key has not encrypted. */
  decrypt(encrypted: Uint8Array): Promise<Uint8Array>
}

/** Goes into what is encrypted, and into the service's own log. */
export const purpose = { holdfast: 'data-key' } as const
