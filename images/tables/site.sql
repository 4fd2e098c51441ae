-- The mail site of "hosting", as most sites with SQL have it. PostgreSQL and MariaDB read it.
CREATE TABLE domains (name varchar(255) PRIMARY KEY);
CREATE TABLE users (address varchar(255) PRIMARY KEY, password varchar(255) NOT NULL);
CREATE TABLE aliases (address varchar(255) PRIMARY KEY, destination varchar(1000) NOT NULL);
INSERT INTO domains VALUES ('example.com');
INSERT INTO users VALUES
  ('alice@example.com', '{PLAIN}secret'),
  ('bob@example.com', '{PLAIN}secret'),
  ('carol@example.com', '{PLAIN}secret'),
  ('dave@example.com', '{PLAIN}secret');
INSERT INTO aliases VALUES ('info@example.com', 'alice@example.com');
