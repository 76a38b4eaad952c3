INSERT INTO product (sku, description, price_cents) VALUES
  ('GLASS-RED', 'Red antique glass, 30 x 40 cm', 4200),
  ('GLASS-BLUE', 'Cobalt blue glass, 30 x 40 cm', 4800),
  ('LEAD-6', 'Lead came, 6 mm, two metres', 950);

INSERT INTO customer (email) VALUES
  ('ines@example.com'),
  ('joao@example.com'),
  ('mara@example.com'),
  ('odile@example.com');

INSERT INTO corder (customer_id, sku, price_cents) VALUES
  (1, 'GLASS-RED', 4200),
  (1, 'LEAD-6', 950),
  (2, 'GLASS-BLUE', 4800),
  (4, 'LEAD-6', 950);
