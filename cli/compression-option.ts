/** `--compression zstd:19,long=27,threads=4` as people type it. The API says what a method cannot have. */
import { InvalidArgumentError } from 'commander'
import { type CompressionRequest, compressionMethods } from '../model/compression.ts'

export const compressionHelp =
  'zstd, lz4, gzip, none or auto (keeps what does not shrink), with a level and more: zstd:19,long=27,threads=4'

export function compression(text: string): CompressionRequest {
  const [head = '', ...rest] = text.split(',')
  const [word, level, ...more] = head.split(':')
  const method = compressionMethods.find(one => one === word)
  if (method === undefined || more.length > 0) {
    throw new InvalidArgumentError(`It begins with one of ${compressionMethods.join(', ')}.`)
  }
  const asked: CompressionRequest = { method }
  if (level !== undefined) asked.level = number(level)
  for (const part of rest) {
    const [name, value = ''] = part.split('=')
    if (name === 'long') asked.longWindow = value === '' ? usualLongWindow : number(value)
    else if (name === 'threads') asked.threads = number(value)
    else throw new InvalidArgumentError(`"${part}" is neither long=N nor threads=N.`)
  }
  return asked
}

/** As of the zstd program. */
const usualLongWindow = 27

function number(text: string): number {
  if (!/^\d{1,3}$/.test(text)) throw new InvalidArgumentError(`"${text}" is not a whole number.`)
  return Number(text)
}
