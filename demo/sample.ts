/** Words of the sample shop. */
export const names = [
  'Ana',
  'Björn',
  'Chloë',
  'Dmitri',
  'Eŭgeno',
  '藤原',
  'Γιώργος',
  "O'Hara",
  'محمد',
  'Zoë "Z" \\',
]
export const words = [
  'Lantern',
  'teapot',
  'Füller',
  '墨',
  'кружка',
  'needle',
  'càrd',
  'Ωmega',
  'rope, 5 m',
  'naïve\tlamp',
]
export const orderStates = ['open', 'paid', 'sent', null, 'returned']
