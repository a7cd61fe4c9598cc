/** The event that all formats write and read, about 1 KiB as JSON, and its schemas. */

export const order = {
  id: 'order-000000000042',
  customer: 'customer-000123',
  placedAt: 1_780_000_000_000,
  total: 123_456,
  currency: 'EUR',
  note: 'Please ring twice; the bell at the back door is broken.',
  address: { street: 'Lange Straße 12', city: 'Hamburg', zip: '20095', country: 'DE' },
  lines: Array.from({ length: 10 }, (_, index) => ({
    sku: `sku-${1_000 + index}`,
    title: `Something that somebody wants, number ${index}`,
    count: index + 1,
    price: 12.5 * (index + 1),
  })),
};

const text = { type: 'string' };
const textFields = (...names: string[]): object => Object.fromEntries(names.map((name) => [name, text]));

export const jsonSchema = {
  type: 'object',
  required: ['id', 'total', 'lines'],
  properties: {
    ...textFields('id', 'customer', 'currency', 'note'),
    placedAt: { type: 'integer' },
    total: { type: 'integer', minimum: 0 },
    address: {
      type: 'object',
      properties: textFields('street', 'city', 'zip', 'country'),
      additionalProperties: false,
    },
    lines: {
      type: 'array',
      items: {
        type: 'object',
        required: ['sku', 'count'],
        properties: { ...textFields('sku', 'title'), count: { type: 'integer' }, price: { type: 'number' } },
        additionalProperties: false,
      },
    },
  },
  additionalProperties: false,
};

const avroText = (...names: string[]): object[] => names.map((name) => ({ name, type: 'string' }));

export const avroSchema = {
  type: 'record',
  name: 'Order',
  fields: [
    ...avroText('id', 'customer'),
    { name: 'placedAt', type: 'long' },
    { name: 'total', type: 'long' },
    ...avroText('currency', 'note'),
    {
      name: 'address',
      type: { type: 'record', name: 'Address', fields: avroText('street', 'city', 'zip', 'country') },
    },
    {
      name: 'lines',
      type: {
        type: 'array',
        items: {
          type: 'record',
          name: 'Line',
          fields: [...avroText('sku', 'title'), { name: 'count', type: 'int' }, { name: 'price', type: 'double' }],
        },
      },
    },
  ],
};

export const protoSchema = `
syntax = "proto3";
message Order {
  string id = 1;
  string customer = 2;
  int64 placedAt = 3;
  int64 total = 4;
  string currency = 5;
  string note = 6;
  Address address = 7;
  repeated Line lines = 8;
}
message Address { string street = 1; string city = 2; string zip = 3; string country = 4; }
message Line { string sku = 1; string title = 2; int32 count = 3; double price = 4; }
`;
